"""Flow 2, whether calls worked: due > ask > decode > store > suspect.

The calls that are due wait in the database, however many they are; some are read, asked about within their own quota,
and what the provider says of them goes the way of everything that is told of calls (`outcomes`), which raises suspicion
of a binding where it must. What a state means is decided in `core.causes`, when to ask again in `core.calls`.
"""

import asyncio
from dataclasses import replace
from enum import StrEnum
from math import inf

from precall.clocks import Clocks
from precall.concurrency import breathe
from precall.core.calls.call import HOURLY, Call, CallResult, CallSource, interleave, next_try, query_date
from precall.core.calls.causes import judge
from precall.core.errors import StoreUnavailable
from precall.core.limits.quota import Priority, Quota
from precall.core.model import Flag, NonAnswer
from precall.engine.call_results import CallResults
from precall.engine.checker import Checker, drained
from precall.engine.provider_health import AccountHealth
from precall.provider import CallDetail, Provider, kept
from precall.provider.receipts import DETAIL_FACTS
from precall.store import Store
from precall.table.table import Table
from precall.telemetry.logging import get_logger
from precall.telemetry.metrics import Metrics

log = get_logger(__name__)

MOST = 100
"""Calls asked about in one tick, at most."""
ABREAST = 4
"""Questions started before the loop is let go."""
RETRY = 60.0
"""Seconds until a call is asked about again whose question failed on the way."""
FURTHEST = 2 * HOURLY
"""Seconds ahead of now that no call is filed for by a clock that is right."""
SHOWN_EVERY = 5.0
EXAMPLES = 5
SLICE = 250


class PollOutcome(StrEnum):
    """What came of a question: the label of `precall_call_details_total`."""

    CONNECTED = "connected"
    FAILED = "failed"
    NOT_CONNECTED = "not_connected"
    IN_PROGRESS = "in_progress"
    NOTHING_YET = "nothing_yet"
    THROTTLED = "throttled"
    TRANSIENT = "transient"
    STALE = "stale"
    ACCOUNT = "account"
    REFUSED = "refused"
    GONE = "gone"
    MALFORMED = "malformed"


def budget(per_minute: float) -> tuple[float, float]:
    """Rate (calls/s) and burst by which no minute takes more than `per_minute` calls: a tenth of them at once, the
    others evenly."""
    burst = max(1.0, per_minute / 10)
    return max(per_minute - burst, per_minute / 2) / 60, burst


class CallPoller:
    """Learns how reported calls ended."""

    def __init__(
        self,
        *,
        provider: Provider,
        store: Store,
        table: Table,
        checker: Checker,
        outcomes: CallResults,
        metrics: Metrics,
        per_minute: float,
        clocks: Clocks,
    ) -> None:
        self.quota = Quota(*budget(per_minute), clocks.tick())
        self._account = AccountHealth(
            self.quota,
            refused="calls.provider_refuses_us",
            accepted="calls.provider_accepts_us_again",
            action="QueryCallDetailByCallId",
            calls="are kept; one probe every 30 s",
        )
        self.circuit = self._account.circuit
        self._provider, self._store, self._table = provider, store, table
        self._checker, self._outcomes, self._metrics, self._clocks = checker, outcomes, metrics, clocks
        self._asking: dict[str, asyncio.Task[CallDetail | NonAnswer]] = {}
        self._newest_first, self._astray = False, True
        self._shown_at = -inf
        self._suspects: set[str] = set()
        self._disagreeing: set[str] = set()
        for heard in PollOutcome:
            metrics.call_details.labels(heard)

    def retune(self, per_minute: float) -> None:
        """The budget is another from now on."""
        self.quota.retune(*budget(per_minute), self._clocks.tick())

    def doubt_dates(self) -> None:
        """The clock was set: calls may be filed under times that are yet to come. As at each start."""
        self._astray = True

    async def tick(self) -> None:
        """Ask about the calls that are due and may be asked about now, and keep what comes of it."""
        try:
            if self._astray and self._outcomes.saving:
                now = self._clocks.now()
                await self._store.calls.make_due(now, now + FURTHEST)
                self._astray = False
            due = await self._due()
            await self._keep(await self._ask_all(due))
            await self._show()
        except StoreUnavailable as error:
            log.debug("calls.waiting", error=str(error))

    async def _due(self) -> list[Call]:
        """The longest due and the newest by turns, as many as quota and circuit allow."""
        tick = self._clocks.tick()
        if (
            not self._checker.queries.may_call()
            or not self._outcomes.saving
            or self.quota.until(tick, Priority.BACKGROUND) > 0
        ):
            return []
        oldest, newest = await self._store.calls.due(self._clocks.now(), MOST)
        taken: list[Call] = []
        for call in interleave(oldest, newest, newest_first=self._newest_first):
            if (
                len(taken) == MOST
                or self.quota.until(tick, Priority.BACKGROUND) > 0
                or not self.circuit.admits(tick)
            ):
                break
            self.quota.spend(tick, Priority.BACKGROUND)
            self._newest_first = not self._newest_first
            taken.append(call)
        return taken

    async def _ask_all(self, due: list[Call]) -> "list[tuple[Call, CallDetail | NonAnswer]]":
        for place, call in enumerate(due, 1):
            self._asking[call.call_id] = asyncio.create_task(self._ask(call), name="call-detail")
            await breathe(place, ABREAST)
        asking = self._asking
        if asking:
            await asyncio.wait(asking.values())
        self._asking = {}
        return [(call, asking[call.call_id].result()) for call in due if not asking[call.call_id].cancelled()]

    async def drain(self, limit: float) -> None:
        """Let the questions under way end, for at most `limit` seconds; then cancel them. They will be asked again."""
        await drained(self._asking.values(), limit)

    async def _ask(self, call: Call) -> CallDetail | NonAnswer:
        """What the provider knows of a call; of one placed near midnight it is asked under two days."""
        for place, day in enumerate(query_date(call.called_at)):
            if place:
                await self._afford()
            asked = await self._provider.query_call_detail(call.call_id, call.prod_id, day, again=self._again)
            if isinstance(asked.reply, NonAnswer) or asked.reply.data is not None:
                break
        return asked.reply

    async def _afford(self) -> None:
        """Wait until the budget has one call more, and spend it."""
        while not self._again():
            wait = self.quota.until(self._clocks.tick(), Priority.BACKGROUND)
            await asyncio.sleep(max(wait, 0.005))

    def _again(self) -> bool:
        """Whether the budget has one call more."""
        return self._checker.queries.may_call() and self.quota.spend(self._clocks.tick(), Priority.BACKGROUND)

    async def _keep(self, told: list[tuple[Call, CallDetail | NonAnswer]]) -> None:
        """Store what ended, and when to ask again about what did not."""
        ended: list[Call] = []
        later: list[tuple[str, float | None]] = []
        for call, reply in told:
            heard, end = self._read(call, reply)
            self._metrics.call_details.labels(heard).inc()
            if end is not None:
                ended.append(end)
            elif heard not in (PollOutcome.THROTTLED, PollOutcome.STALE, PollOutcome.ACCOUNT):
                again = self._again_at(call, heard)
                if again is None and call.result is CallResult.PENDING:
                    ended.append(replace(call, result=CallResult.UNVERIFIED, next_at=None))
                else:
                    later.append((call.call_id, again))
        if ended:
            await self._outcomes.file(ended)
        if later:
            await self._store.calls.postpone(later)

    def _read(self, call: Call, reply: CallDetail | NonAnswer) -> tuple[PollOutcome, Call | None]:
        """What was heard, and the call as it ended, if it did."""
        tick = self._clocks.tick()
        self._account.learn(reply, tick)
        if isinstance(reply, NonAnswer):
            return PollOutcome(reply.failure.value), None
        if reply.data is None:
            return PollOutcome.NOTHING_YET, None
        end = judge(reply.state, reply.duration)
        if end is None:
            return PollOutcome.IN_PROGRESS, None
        told = replace(
            call,
            result=CallResult(end),
            source=CallSource.DETAIL,
            state=reply.state,
            duration=reply.duration,
            detail=kept(reply.data, DETAIL_FACTS, request_id=reply.request_id),
            next_at=None,
        )
        return PollOutcome(end), told

    def _again_at(self, call: Call, heard: PollOutcome) -> float | None:
        # Where the clock is a day ahead, no call has waited for a day.
        lead = self._clocks.lead
        now = self._clocks.now() - lead
        again = next_try(call.called_at, now)
        if again is None:
            return None
        if heard in (PollOutcome.TRANSIENT, PollOutcome.MALFORMED):
            again = min(again, now + RETRY)
        return again + lead

    async def _show(self) -> None:
        """Gauges that cost more than a look: once in a while, not at every scrape."""
        now, tick = self._clocks.now(), self._clocks.tick()
        if tick - self._shown_at < SHOWN_EVERY:
            return
        self._shown_at = tick
        metrics, calibration = self._metrics, self._checker.plan.calibration
        backlog = await self._store.calls.backlog(now)
        metrics.calls_waiting.set(backlog.waiting)
        metrics.calls_due.set(backlog.due)
        metrics.calls_due_age.set(0.0 if backlog.due_since is None else max(0.0, now - backlog.due_since))
        metrics.show_shares(metrics.wrong_at_dial, calibration.predicted)
        metrics.show_shares(metrics.wrong_at_dial_measured, calibration.measured)
        await self._show_suspects(now)

    async def _show_suspects(self, now: float) -> None:
        """Count the bindings in doubt, and tell of new ones: all of them in one line, however many."""
        suspicion, suspects, disagreeing = self._checker.suspicion, set[str](), set[str]()
        for place, subs_id in enumerate(suspicion.suspects(now), 1):
            row = self._table.get(subs_id)
            flags = suspicion.flags(row, now) if row is not None else ()
            if Flag.SUSPECT in flags:
                suspects.add(subs_id)
            if Flag.API_DISAGREES in flags:
                disagreeing.add(subs_id)
            await breathe(place, SLICE)
        self._metrics.calls_suspect.set(len(suspects))
        self._metrics.calls_api_disagrees.set(len(disagreeing))
        if fresh := suspects - self._suspects:
            log.warning(
                "bindings.suspect", new=len(fresh), of=len(suspects), subs_ids=sorted(fresh)[:EXAMPLES]
            )
        if fresh := disagreeing - self._disagreeing:
            log.error(
                "provider.disagrees", new=len(fresh), of=len(disagreeing), subs_ids=sorted(fresh)[:EXAMPLES]
            )
        self._suspects, self._disagreeing = suspects, disagreeing
