"""The telephone network of the simulation: decide how a call ends.

Whether a number reaches its callee is decided in world.py. The formats of details and receipts are in calls.py and
receipts.py.

A call that reaches its callee is answered, or ends busy, unanswered or powered off. Any other call fails with a cause
that the number may be responsible for. States are from the state table of QueryCallDetailByCallId; causes are ITU-T
Q.850, as in SecretReport's release_cause.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from precall.simulator.calls import RINGING, CallLog
from precall.simulator.chance import uniform, waiting_time
from precall.simulator.population import SimBinding
from precall.simulator.receipts import ReceiptQueue, Report
from precall.simulator.scenario import Call, Habits
from precall.simulator.world import World

VOICE_SERVICE: Final = 11000000300006
"""ProdId of calls placed through the voice service."""
_INVALID = ("200004", 1)  # no such number / unallocated
_BROKEN = (
    *(("200005", 27),) * 4,  # unreachable / destination out of order
    *(("200012", 38),) * 3,  # call loss / network out of order
    *(("500", 41),) * 2,  # carrier error / temporary failure
    ("400", 42),  # network element busy / congestion
    ("482", 3),  # callee unavailable / no route
    ("476", 1),  # number reclaimed / unallocated
)


class Ending(StrEnum):
    """How a call ended. Only `failed` may be the number's fault."""

    CONNECTED = "connected"
    BUSY = "busy"
    NO_ANSWER = "no_answer"
    POWERED_OFF = "powered_off"
    FAILED = "failed"


_ENDINGS = {
    Ending.CONNECTED: ("200000", 16),
    Ending.BUSY: ("200002", 17),
    Ending.NO_ANSWER: ("200003", 19),
    Ending.POWERED_OFF: ("200010", 20),
}


@dataclass(frozen=True, slots=True)
class PlacedCall:
    """One call and its outcome.

    `called_at` and `ends_at` are Unix seconds, `duration` is scenario seconds (0 if not connected). Calls from a
    handset are reported by a receipt, all others by a call detail.
    """

    serial: int
    call_id: str
    binding: SimBinding
    caller: str
    dialled: str
    called_at: float
    ending: Ending
    state: str
    release_cause: int
    duration: int
    handset: bool
    ends_at: float


class Exchange:
    """Place calls. Outcomes follow from the seed and the order of calls; `speed` scenario seconds pass per second."""

    def __init__(
        self, seed: int, world: World, details: CallLog, receipts: ReceiptQueue, habits: Habits, speed: float
    ) -> None:
        self._seed, self._world, self._details, self._receipts = seed, world, details, receipts
        self._habits, self._speed = habits, speed
        self._placed = 0

    def place(
        self, binding: SimBinding, caller: str, number: str, now: float, *, handset: bool | None = None
    ) -> PlacedCall:
        """Place a call that the provider will report.

        `handset` says whether it is placed from a handset or through the voice service; None leaves it to chance. A
        call to a party's own number always uses the voice service: the provider sees no other call to it.
        """
        self._placed += 1
        serial = self._placed
        if handset is None:
            handset = uniform(self._seed, "handset", serial) < self._habits.handset
        if number in (binding.number_a, binding.number_b):
            handset = False
        call = self._outcome(serial, binding, caller, number, now, handset=handset)
        if handset:
            self._receipts.add(_receipt(call), call.ends_at)
        else:
            self._details.add(self._detail(call), now)
        return call

    def compare(self, call: PlacedCall, number: str) -> PlacedCall:
        """Return how the same call to another `number` would have ended. It is not reported."""
        return self._outcome(
            call.serial, call.binding, call.caller, number, call.called_at, handset=call.handset
        )

    def try_out(self, binding: SimBinding, caller: str, number: str, now: float) -> PlacedCall:
        """Return how a call would end. It is not reported."""
        self._placed += 1
        return self._outcome(self._placed, binding, caller, number, now, handset=False)

    def _outcome(
        self, serial: int, binding: SimBinding, caller: str, number: str, now: float, *, handset: bool
    ) -> PlacedCall:
        duration = 0
        if self._world.reaches(binding, number, now):
            ending = self._callee_ending(serial)
            state, cause = _ENDINGS[ending]
            if ending is Ending.CONNECTED:
                duration = 1 + round(waiting_time(self._habits.talk, self._seed, "talk", serial))
        else:
            ending = Ending.FAILED
            bound = number == binding.number_x and self._world.in_effect(binding, now)
            drawn = _BROKEN[int(uniform(self._seed, "cause", serial) * len(_BROKEN))]
            state, cause = drawn if bound else _INVALID
        call_id = self._call_id(serial, handset=handset)
        ends_at = now + (RINGING + duration) / self._speed
        return PlacedCall(
            serial, call_id, binding, caller, number, now, ending, state, cause, duration, handset, ends_at
        )

    def _callee_ending(self, serial: int) -> Ending:
        habits, drawn = self._habits, uniform(self._seed, "mood", serial)
        for ending, share in (
            (Ending.BUSY, habits.busy),
            (Ending.NO_ANSWER, habits.no_answer),
            (Ending.POWERED_OFF, habits.powered_off),
        ):
            if drawn < share:
                return ending
            drawn -= share
        return Ending.CONNECTED

    def _call_id(self, serial: int, *, handset: bool) -> str:
        """Return an id in the format of receipts (`handset`) or of the voice service."""
        high = int(uniform(self._seed, "call id", serial) * 10**12)
        return f"{high:012x}{serial:08x}" if handset else f"{116 * 10**9 + high % 10**9}^{10**11 + serial}"

    def _detail(self, call: PlacedCall) -> Call:
        return Call(
            call_id=call.call_id,
            prod_id=VOICE_SERVICE,
            called_at=call.called_at,
            state=call.state,
            duration=call.duration,
            after=self._habits.detail_after,
            caller=call.caller,
            callee=call.dialled,
        )


def _receipt(call: PlacedCall) -> Report:
    binding = call.binding
    return Report(
        call_id=call.call_id,
        sub_id=binding.subs_id,
        pool_key=binding.pool_key,
        phone_no=binding.number_a,
        secret_no=call.dialled,
        peer_no=binding.number_b or call.caller,
        by_a=call.caller == binding.number_a,
        called_at=call.called_at,
        ringing=RINGING,
        duration=call.duration,
        release_cause=call.release_cause,
    )
