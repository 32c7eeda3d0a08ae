"""Flow 2, whether calls worked: due > query > decode > store > suspect.

Due calls wait in the database, however many there are. A few at a time are read and queried, within their own quota.
The replies are stored through `call_results`, like any other report of a call, which may make a binding suspect.
`core.calls.causes` interprets call states; `core.calls.call` decides when to query again.
"""

import asyncio
from dataclasses import replace
from enum import StrEnum
from math import inf

from precall.clocks import Clocks
from precall.concurrency import breathe, finish_or_cancel
from precall.core.calls.call import HOURLY, Call, CallResult, CallSource, interleave, next_try, query_date
from precall.core.calls.causes import judge
from precall.core.errors import StoreUnavailable
from precall.core.limits.quota import Priority, Quota
from precall.core.model import Flag, NonAnswer
from precall.engine.call_results import CallResults
from precall.engine.checker import Checker
from precall.engine.provider_health import AccountHealth
from precall.provider import CallDetail, Provider, kept
from precall.provider.receipts import DETAIL_FACTS
from precall.store import Store
from precall.table.table import Table
from precall.telemetry.logging import get_logger
from precall.telemetry.metrics import Metrics

log = get_logger(__name__)

MAX_PER_TICK = 100
"""Maximum number of calls queried in one tick."""
STARTS_PER_YIELD = 4
"""Queries started before yielding to the event loop."""
RETRY = 60.0
"""Seconds until a failed query is retried."""
FURTHEST = 2 * HOURLY
"""Seconds ahead. No call is scheduled beyond this unless the clock was wrong."""
SHOWN_EVERY = 5.0
EXAMPLES = 5
SLICE = 250


class PollOutcome(StrEnum):
    """The outcome of a query: the label of `precall_call_details_total`."""

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
    """Return the rate (calls/s) and burst that allow at most `per_minute` calls in any minute.

    A tenth of them may be made at once, the rest evenly.
    """
    burst = max(1.0, per_minute / 10)
    return max(per_minute - burst, per_minute / 2) / 60, burst


class CallPoller:
    """Queries the provider for the results of reported calls."""

    def __init__(
        self,
        *,
        provider: Provider,
        store: Store,
        table: Table,
        checker: Checker,
        call_results: CallResults,
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
        self._checker, self._call_results, self._metrics, self._clocks = (
            checker,
            call_results,
            metrics,
            clocks,
        )
        self._in_flight: dict[str, asyncio.Task[CallDetail | NonAnswer]] = {}
        self._newest_first, self._dates_in_doubt = False, True
        self._shown_at = -inf
        self._suspects: set[str] = set()
        self.disagreeing: set[str] = set()
        for outcome in PollOutcome:
            metrics.call_details.labels(outcome)

    def retune(self, per_minute: float) -> None:
        """Change the budget."""
        self.quota.retune(*budget(per_minute), self._clocks.tick())

    def doubt_dates(self) -> None:
        """Note that the clock was set, so that calls may be scheduled too far ahead. Also assumed at each start."""
        self._dates_in_doubt = True

    async def tick(self) -> None:
        """Query due calls, as far as the budget allows, and store the results."""
        try:
            if self._dates_in_doubt and self._call_results.saving:
                now = self._clocks.now()
                await self._store.calls.make_due(now, now + FURTHEST)
                self._dates_in_doubt = False
            due = await self._due()
            await self._store_replies(await self._query_all(due))
            await self._show()
        except StoreUnavailable as error:
            log.debug("calls.waiting", error=str(error))

    async def _due(self) -> list[Call]:
        """Return due calls, alternating the oldest and the newest, as many as quota and circuit allow."""
        tick = self._clocks.tick()
        if (
            not self._checker.queries.may_call()
            or not self._call_results.saving
            or self.quota.until(tick, Priority.BACKGROUND) > 0
        ):
            return []
        oldest, newest = await self._store.calls.due(self._clocks.now(), MAX_PER_TICK)
        taken: list[Call] = []
        for call in interleave(oldest, newest, newest_first=self._newest_first):
            if (
                len(taken) == MAX_PER_TICK
                or self.quota.until(tick, Priority.BACKGROUND) > 0
                or not self.circuit.admits(tick)
            ):
                break
            self.quota.spend(tick, Priority.BACKGROUND)
            self._newest_first = not self._newest_first
            taken.append(call)
        return taken

    async def _query_all(self, due: list[Call]) -> "list[tuple[Call, CallDetail | NonAnswer]]":
        for i, call in enumerate(due, 1):
            self._in_flight[call.call_id] = asyncio.create_task(self._query(call), name="call-detail")
            await breathe(i, STARTS_PER_YIELD)
        tasks = self._in_flight
        if tasks:
            await asyncio.wait(tasks.values())
        self._in_flight = {}
        return [(call, tasks[call.call_id].result()) for call in due if not tasks[call.call_id].cancelled()]

    async def drain(self, limit: float) -> None:
        """Wait for queries in flight, for at most `limit` seconds, then cancel them. They are repeated later."""
        await finish_or_cancel(self._in_flight.values(), limit)

    async def _query(self, call: Call) -> CallDetail | NonAnswer:
        """Query one call. A call placed near midnight is looked up under both dates."""
        for attempt, day in enumerate(query_date(call.called_at)):
            if attempt:
                await self._afford()
            asked = await self._provider.query_call_detail(call.call_id, call.prod_id, day, again=self._spend)
            if isinstance(asked.reply, NonAnswer) or asked.reply.data is not None:
                break
        return asked.reply

    async def _afford(self) -> None:
        """Wait until the budget has another call, and spend it."""
        while not self._spend():
            wait = self.quota.until(self._clocks.tick(), Priority.BACKGROUND)
            await asyncio.sleep(max(wait, 0.005))

    def _spend(self) -> bool:
        """Spend one call of the budget. Return whether there was one."""
        return self._checker.queries.may_call() and self.quota.spend(self._clocks.tick(), Priority.BACKGROUND)

    async def _store_replies(self, replies: list[tuple[Call, CallDetail | NonAnswer]]) -> None:
        """Store the results of ended calls, and when to query the others again."""
        ended: list[Call] = []
        later: list[tuple[str, float | None]] = []
        for call, reply in replies:
            outcome, end = self._read(call, reply)
            self._metrics.call_details.labels(outcome).inc()
            if end is not None:
                ended.append(end)
            elif outcome not in (PollOutcome.THROTTLED, PollOutcome.STALE, PollOutcome.ACCOUNT):
                again = self._next_query(call, outcome)
                if again is None and call.result is CallResult.PENDING:
                    ended.append(replace(call, result=CallResult.UNVERIFIED, next_at=None))
                else:
                    later.append((call.call_id, again))
        if ended:
            await self._call_results.file(ended)
        if later:
            await self._store.calls.postpone(later)

    def _read(self, call: Call, reply: CallDetail | NonAnswer) -> tuple[PollOutcome, Call | None]:
        """Return the outcome of a query, and the updated call if it has ended."""
        tick = self._clocks.tick()
        self._account.learn(reply, tick)
        if isinstance(reply, NonAnswer):
            return PollOutcome(reply.failure.value), None
        if reply.data is None:
            return PollOutcome.NOTHING_YET, None
        end = judge(reply.state, reply.duration)
        if end is None:
            return PollOutcome.IN_PROGRESS, None
        ended = replace(
            call,
            result=CallResult(end),
            source=CallSource.DETAIL,
            state=reply.state,
            duration=reply.duration,
            detail=kept(reply.data, DETAIL_FACTS, request_id=reply.request_id),
            next_at=None,
        )
        return PollOutcome(end), ended

    def _next_query(self, call: Call, outcome: PollOutcome) -> float | None:
        # Compute with the true time: on a clock that is a day ahead, no call has waited for a day.
        lead = self._clocks.lead
        now = self._clocks.now() - lead
        again = next_try(call.called_at, now)
        if again is None:
            return None
        if outcome in (PollOutcome.TRANSIENT, PollOutcome.MALFORMED):
            again = min(again, now + RETRY)
        return again + lead

    async def _show(self) -> None:
        """Update gauges that are too expensive to compute at every scrape."""
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
        """Count suspect bindings, and log new ones in a single line."""
        suspicion, suspects, disagreeing = self._checker.suspicion, set[str](), set[str]()
        for i, subs_id in enumerate(suspicion.suspects(now), 1):
            row = self._table.get(subs_id)
            flags = suspicion.flags(row, now) if row is not None else ()
            if Flag.SUSPECT in flags:
                suspects.add(subs_id)
            if Flag.API_DISAGREES in flags:
                disagreeing.add(subs_id)
            await breathe(i, SLICE)
        self._metrics.calls_suspect.set(len(suspects))
        self._metrics.calls_api_disagrees.set(len(disagreeing))
        if fresh := suspects - self._suspects:
            log.warning(
                "bindings.suspect", new=len(fresh), of=len(suspects), subs_ids=sorted(fresh)[:EXAMPLES]
            )
        if fresh := disagreeing - self.disagreeing:
            log.error(
                "provider.disagrees", new=len(fresh), of=len(disagreeing), subs_ids=sorted(fresh)[:EXAMPLES]
            )
        self._suspects, self.disagreeing = suspects, disagreeing
