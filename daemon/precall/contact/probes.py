"""The probes of a contact, the most useful first, each with the most calls it may take.

Calls are made one after another, no faster than the configured rate. A call that is throttled or gets no reply is
repeated once. The rest of the budget is spent in one burst at the end, to provoke throttling. Only this burst exceeds
the rate. It queries a binding that does not exist, so nothing is allocated for it.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal

from precall.contact.calls import AskedCall, Question
from precall.contact.subjects import NO_SUBJECT, Subject, SubjectKind, Subjects
from precall.core.calls.call import query_date
from precall.core.model import Answer, Failure, Status
from precall.provider import DETAIL, NUMBER, STATUS, SUBSCRIPTION, Provider
from precall.provider.sign import Format, Scheme

PROBES: Mapping[str, tuple[int, str]] = MappingProxyType(
    {
        "live": (1, "a live binding"),
        "signature": (2, "the other signature"),
        "unknown_binding": (1, "a SubsId that does not exist"),
        "unknown_pool": (1, "a pool that does not exist"),
        "expired": (1, "an expired binding"),
        "unbound": (1, "a binding that was unbound"),
        "survey": (6, "the other live bindings, until one has Status 2"),
        "again": (2, "a binding with Status 2, twice more"),
        "format": (1, "the other format"),
        "call_no_a": (1, "CallNo of A"),
        "call_no_b": (1, "CallNo of B"),
        "unknown_action": (1, "an action that does not exist"),
        "subscription": (2, "the substitutes of QueryCallStatus"),
        "call_detail": (1, "a call that does not exist"),
        "more_live": (6, "live bindings not queried yet, until each Status and an extension were seen"),
        "burst": (100, "the calls that are left, at once"),
    }
)
"""The most calls of each probe, without repetitions, and what it queries. Both surveys together take 6."""
ABOUT_LIVE = ("live", "survey", "again", "more_live")
"""The probes that ask about live bindings as precall does."""

NO_CALLS_LEFT = "no calls left"
NOT_SERVED = "QueryCallStatus is not served"
INTERRUPTED = "interrupted"
UNKNOWN_ACTION = "QueryPrecallContact"
_UNKNOWN_CALL = {"CallId": "0^0", "ProdId": "11000000300006"}
_WAIT = 2.0
"""Seconds before a call is repeated, unless the provider says how long."""
_REPEATED = (Failure.THROTTLED, Failure.TRANSIENT, Failure.STALE)

Providers = Mapping[tuple[Scheme, Format], Provider]


class StopContact(Exception):
    """The contact ends early: the budget is spent, or it was interrupted."""


@dataclass(slots=True)
class Limits:
    """How many calls may be made, how many a second, and what ends the contact early."""

    calls: int
    rate: float
    stop: asyncio.Event


@dataclass(frozen=True, slots=True)
class ContactClock:
    """Unix seconds, and a monotonic clock for pauses."""

    wall: Callable[[], float]
    monotonic: Callable[[], float]


@dataclass(slots=True)
class ContactRecord:
    """What a contact has seen so far of its subjects. `skipped` has the reason for each probe that made no call."""

    calls: list[AskedCall] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)
    interrupted: bool = False
    subjects: Subjects = field(default_factory=Subjects)

    def of(self, *probes: str) -> list[AskedCall]:
        return [call for call in self.calls if call.probe in probes]

    @property
    def live_not_asked(self) -> list[Subject]:
        """The live bindings that were not asked about, whatever the reply was."""
        asked = {call.subject.binding.subs_id for call in self.of(*ABOUT_LIVE)}
        return [subject for subject in self.subjects.live if subject.binding.subs_id not in asked]

    def answers(self, *statuses: Status) -> list[tuple[AskedCall, Answer]]:
        """The answers about live bindings, asked without CallNo, that have one of these statuses."""
        found = [
            (call, call.answer) for call in self.of(*ABOUT_LIVE) if call.subject.kind is SubjectKind.LIVE
        ]
        return [(call, answer) for call, answer in found if answer is not None and answer.status in statuses]


class Contact:
    """Runs every probe once. Build one for each contact, within a running event loop."""

    def __init__(
        self,
        providers: Providers,
        chosen: tuple[Scheme, Format],
        subjects: Subjects,
        limits: Limits,
        clock: ContactClock,
        noted: Callable[[AskedCall], None],
    ) -> None:
        """`chosen` is the configured signature and format. `noted` gets each call as soon as it is over."""
        self._providers = providers
        self._chosen = chosen
        self._subjects = subjects
        self._limits = limits
        self._clock = clock
        self._noted = noted
        self._spent = 0
        self._next = clock.monotonic()
        self.record = ContactRecord(subjects=subjects)

    async def run(self) -> ContactRecord:
        """Make the calls of every probe that fits. Returns what was seen, also when it ends early."""
        steps: dict[str, Callable[[], Awaitable[str | None]]] = {
            "live": self._live,
            "signature": self._signature,
            "unknown_binding": self._unknown_binding,
            "unknown_pool": self._unknown_pool,
            "expired": self._expired,
            "unbound": self._unbound,
            "survey": self._survey,
            "again": self._again,
            "format": self._format,
            "call_no_a": self._call_no_a,
            "call_no_b": self._call_no_b,
            "unknown_action": self._unknown_action,
            "subscription": self._substitutes,
            "call_detail": self._call_detail,
            "more_live": self._more_live,
            "burst": self._burst,
        }
        over = ""
        for probe, step in steps.items():
            try:
                reason = over or await step()
            except StopContact as end:
                reason = over = str(end)
            if reason and not self.record.of(probe):
                self.record.skipped[probe] = reason
            if probe == "signature" and not over:
                over = self._hopeless()
        self.record.interrupted = over == INTERRUPTED
        return self.record

    # -- the probes: each returns why it has nothing to ask, None if it asked

    async def _live(self) -> str | None:
        await self._status("live", self._baseline)
        return None if self._subjects.live else "no live binding in the file"

    async def _signature(self) -> str | None:
        other: Scheme = "rpc" if self._chosen[0] == "acs3" else "acs3"
        call = await self._status("signature", self._baseline, signature=other)
        if call.is_unknown_action:
            await self._subscription("signature", self._baseline, signature=other)
        return None

    async def _unknown_binding(self) -> str | None:
        return await self._if_served("unknown_binding", self._subjects.unknown)

    async def _unknown_pool(self) -> str | None:
        return await self._if_served("unknown_pool", self._subjects.unknown_pool)

    async def _survey(self) -> str | None:
        if not self._is_served:
            return self._unserved
        for subject in self._subjects.live[1:]:
            if self._with_status(Status.TEMPORARY) is not None:
                break
            await self._status("survey", subject)
        return None

    async def _again(self) -> str | None:
        found = self._with_status(Status.TEMPORARY)
        if found is None:
            return self._unserved or "no live binding that was asked about has Status 2 now"
        for _ in range(2):
            await self._status("again", found)
        return None

    async def _expired(self) -> str | None:
        return await self._if_served("expired", self._subjects.expired)

    async def _unbound(self) -> str | None:
        return await self._if_served("unbound", self._subjects.unbound)

    async def _format(self) -> str | None:
        other: Format = "xml" if self._chosen[1] == "json" else "json"
        if self._is_served:
            await self._status("format", self._baseline, format=other)
        else:
            await self._subscription("format", self._baseline, format=other)
        return None

    async def _call_no_a(self) -> str | None:
        return await self._with_call_no("a")

    async def _call_no_b(self) -> str | None:
        return await self._with_call_no("b")

    async def _unknown_action(self) -> str | None:
        await self._ask(self._question("unknown_action", UNKNOWN_ACTION, {}, NO_SUBJECT))
        return None

    async def _substitutes(self) -> str | None:
        subject = self._baseline
        await self._subscription("subscription", subject)
        parameters = {"PoolKey": subject.binding.pool_key, "SecretNo": subject.binding.number_x}
        await self._ask(self._question("subscription", NUMBER, parameters, subject))
        return None

    async def _call_detail(self) -> str | None:
        parameters = _UNKNOWN_CALL | {"QueryDate": str(query_date(self._clock.wall())[0])}
        await self._ask(self._question("call_detail", DETAIL, parameters, NO_SUBJECT))
        return None

    async def _more_live(self) -> str | None:
        """Look for what the survey left open, now that all else is settled and calls are left."""
        if not self._is_served:
            return self._unserved
        left = self.record.live_not_asked
        for subject in left:
            if self._saw_all:
                break
            await self._status("more_live", subject)
        return "no live binding is left" if not left else "each Status was seen"

    async def _burst(self) -> str | None:
        left = min(PROBES["burst"][0], self._limits.calls - self._spent)
        if not left:
            return NO_CALLS_LEFT
        subject = self._subjects.unknown
        parameters = _asked_about(subject)
        if not self._is_served:
            parameters["PhoneNoX"] = subject.binding.number_x
        question = self._question("burst", STATUS if self._is_served else SUBSCRIPTION, parameters, subject)
        await self._pause()
        self._spent += left
        for call in await asyncio.gather(*(self._call(question) for _ in range(left))):
            self._note(call)
        return None

    # -- what the probes share

    def _hopeless(self) -> str:
        """Why no further call can show anything, once both signatures were tried; "" otherwise."""
        if not any(call.has_reply for call in self.record.calls):
            return "the provider does not reply"
        refused = all(
            call.failure is Failure.ACCOUNT and not call.is_unknown_action for call in self.record.calls
        )
        return "the provider refuses the account or its key" if refused else ""

    @property
    def _baseline(self) -> Subject:
        """The binding of most probes: the first live one or, without one, one that does not exist."""
        return self._subjects.live[0] if self._subjects.live else self._subjects.unknown

    @property
    def _is_served(self) -> bool:
        asked = [call for call in self.record.of("live", "signature") if call.action == STATUS]
        return any(not call.is_unknown_action for call in asked)

    @property
    def _unserved(self) -> str:
        return "" if self._is_served else NOT_SERVED

    @property
    def _saw_all(self) -> bool:
        """Whether Status 1, 2 and 3 were seen, and an extension, if the file has one."""
        seen = self.record.answers(Status.NORMAL, Status.TEMPORARY, Status.UNREACHABLE)
        extensions = any(subject.binding.extension for subject in self._subjects.live)
        shown = any(call.subject.binding.extension and answer.called_no for call, answer in seen)
        return len({answer.status for _, answer in seen}) == 3 and (shown or not extensions)

    def _with_status(self, status: Status) -> Subject | None:
        for call in self.record.of("live", "survey"):
            if call.answer is not None and call.answer.status is status:
                return call.subject
        return None

    async def _if_served(self, probe: str, subject: Subject | None) -> str | None:
        if not self._is_served:
            return self._unserved
        if subject is None:
            return f"no {probe} binding in the file"
        await self._status(probe, subject)
        return None

    async def _with_call_no(self, side: Literal["a", "b"]) -> str | None:
        """Repeat a query that was made without CallNo, preferably under Status 2, where CallNo may matter."""
        if not self._is_served:
            return self._unserved
        subject = self._with_status(Status.TEMPORARY) or self._baseline
        number = subject.binding.number_a if side == "a" else subject.binding.number_b
        if not number:
            return f"no live binding in the file has {side.upper()}"
        await self._status(f"call_no_{side}", subject, call_no=side)
        return None

    async def _status(self, probe: str, subject: Subject, **how: Any) -> AskedCall:
        """Call QueryCallStatus. `how` may have another `signature` or `format`, or a `call_no`."""
        parameters = _asked_about(subject)
        if side := how.get("call_no", ""):
            parameters["CallNo"] = subject.binding.number_a if side == "a" else subject.binding.number_b
        return await self._ask(self._question(probe, STATUS, parameters, subject, **how))

    async def _subscription(self, probe: str, subject: Subject, **how: Any) -> AskedCall:
        parameters = _asked_about(subject) | {"PhoneNoX": subject.binding.number_x}
        return await self._ask(self._question(probe, SUBSCRIPTION, parameters, subject, **how))

    def _question(
        self, probe: str, action: str, parameters: dict[str, str], subject: Subject, **how: Any
    ) -> Question:
        signature, form = self._chosen
        return Question(
            probe, action, parameters, subject, **({"signature": signature, "format": form} | how)
        )

    async def _ask(self, question: Question) -> AskedCall:
        """Make a call, repeated once after a transient failure. Raises StopContact before it exceeds the budget."""
        call = await self._paced(question)
        if call.failure in _REPEATED:
            await self._wait(call.retry_after or _WAIT)
            call = await self._paced(question)
        return call

    async def _paced(self, question: Question) -> AskedCall:
        if self._spent >= self._limits.calls:
            raise StopContact(NO_CALLS_LEFT)
        await self._pause()
        self._spent += 1
        call = await self._call(question)
        self._note(call)
        return call

    async def _call(self, question: Question) -> AskedCall:
        sent_at = self._clock.wall()
        provider = self._providers[question.signature, question.format]
        reply = await provider.raw(question.action, question.parameters)
        return AskedCall(question, sent_at, self._clock.wall(), reply)

    def _note(self, call: AskedCall) -> None:
        self.record.calls.append(call)
        self._noted(call)

    async def _pause(self) -> None:
        """Wait until the rate allows the next call."""
        await self._wait(self._next - self._clock.monotonic())
        self._next = self._clock.monotonic() + 1.0 / self._limits.rate

    async def _wait(self, seconds: float) -> None:
        """Wait. Raises StopContact when interrupted."""
        if seconds > 0 and not self._limits.stop.is_set():
            try:
                await asyncio.wait_for(self._limits.stop.wait(), seconds)
            except TimeoutError:
                return
        if self._limits.stop.is_set():
            raise StopContact(INTERRUPTED)


def _asked_about(subject: Subject) -> dict[str, str]:
    return {"PoolKey": subject.binding.pool_key, "SubsId": subject.binding.subs_id}
