"""Flow 3, bindings from the customer's own database: read > diff > guard > apply.

`core.sync.plan` decides which rows differ and which removals are refused; `core.sync.columns` turns a row into a
binding. A failure here changes no route: if the database or the query fails, all bindings stay as they are. The failure
is logged once, and shown by the metrics until it is fixed.

An incremental query is read in two ways. `advance` reads what has changed since the newest change time seen, minus a
look-back; it adds and updates. `sync` compares all rows, and alone removes. As that may take a minute, `advance` goes
on meanwhile. What `advance` has read since a comparison began is newer, so the comparison leaves it alone.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field, replace

from precall.config.schema import SourceConfig
from precall.config.settings import Settings
from precall.core.errors import PrecallError, Refusal
from precall.core.model import Binding, Policy, Row
from precall.core.packing import Packed
from precall.core.routing.route import expired_locally, is_over
from precall.core.sync.columns import BadRow
from precall.core.sync.plan import EXAMPLES, Comparison, SyncOutcome, SyncPlan
from precall.engine.registry import Registry
from precall.engine.source_query import NOTHING_SEEN, SourceQuery
from precall.table.table import Table
from precall.telemetry.logging import get_logger
from precall.telemetry.metrics import Metrics
from precall.telemetry.redaction import masked

log = get_logger(__name__)

SLICE = 250
"""Bindings per transaction, and rows processed before yielding to the event loop."""

RETRY = 30.0
"""Seconds after which a comparison of all rows that failed is tried again, while changes are read."""


@dataclass(frozen=True, slots=True)
class SyncReport:
    """The latest successful sync: when it ended (Unix seconds, 0 for never), its duration in seconds, and its effects.

    After an incremental sync, `counts` has its additions and updates only. The other counts are those of the latest
    full comparison, which ended at `compared_at`. `error` is why the latest sync failed, or "" if it succeeded.
    """

    at: float = 0.0
    compared_at: float = 0.0
    seconds: float = 0.0
    counts: dict[SyncOutcome, int] = field(default_factory=lambda: dict.fromkeys(SyncOutcome, 0))
    guard: str = ""
    refused: tuple[BadRow, ...] = ()
    error: str = ""


def live(row: Row, policy: Policy, now: float) -> bool:
    """Return whether this binding may still be dialled, so that removing it by mistake would do harm."""
    return not is_over(row, policy, now)


class SourceSync:
    """Keeps bindings synchronized with a customer's database."""

    def __init__(
        self,
        settings: Settings,
        registry: Registry,
        table: Table,
        metrics: Metrics,
        *,
        clock: Callable[[], float],
        monotonic: Callable[[], float],
    ) -> None:
        self.last = SyncReport()
        self._settings, self._query = settings, SourceQuery(settings.config.source)
        self._registry, self._table, self._metrics = registry, table, metrics
        self._clock, self._monotonic = clock, monotonic
        self._comparing, self._applying = asyncio.Lock(), asyncio.Lock()
        self._newest, self._newer = NOTHING_SEEN, set[str]()
        self._failed_at: float | None = None
        self._in_step_at = monotonic()

    @property
    def age(self) -> float:
        """Seconds since the latest successful sync, or since the start if there is none."""
        return self._monotonic() - self._in_step_at

    @property
    def every(self) -> float:
        """The configured interval between syncs, in seconds."""
        return self._settings.config.source.every

    @property
    def incremental(self) -> bool:
        """Whether a sync may read changes only."""
        return self._query.incremental

    async def sync(self, *, force: bool = False) -> SyncReport:
        """Synchronize with all rows. `force` applies removals regardless of their number.

        Any error makes it a failed sync, which is reported; the next sync tries again.
        """
        async with self._comparing:
            self._newer = set()
            ended = await self._reported(lambda: self._all(force=force))
            self._failed_at = self._monotonic() if ended.error else None
            return ended

    async def advance(self) -> SyncReport:
        """Synchronize with what has changed, or with all rows where that is not known.

        While all rows are being compared for the first time, return the latest report.
        """
        if self._query.incremental and self._newest.value is not None:
            return await self._reported(self._changes)
        return self.last if self._comparing.locked() else await self.sync()

    @property
    def overdue(self) -> bool:
        """Whether the latest comparison of all rows failed a while ago, and should be tried again."""
        return self._failed_at is not None and self._monotonic() - self._failed_at >= RETRY

    async def _reported(self, work: Callable[[], Awaitable[SyncReport]]) -> SyncReport:
        """Run a sync and report how it ended."""
        started = self._monotonic()
        try:
            ended = replace(await work(), seconds=self._monotonic() - started)
        except PrecallError as error:
            ended = replace(self.last, error=str(error))
        except Exception as error:  # a driver error or a bug must not end all syncs
            log.error("source.broken", exc_info=error)
            ended = replace(self.last, error=_unexpected(error))
        except asyncio.CancelledError as error:
            if (task := asyncio.current_task()) is None or task.cancelling():
                raise
            # This task was not cancelled: the error came from a driver.
            ended = replace(self.last, error=_unexpected(error))
        else:
            self._in_step_at = self._monotonic()
        self._report(ended)
        self.last = ended
        return ended

    async def _all(self, *, force: bool) -> SyncReport:
        """read > diff > guard > apply, with all rows"""
        policy, now = self._settings.policy, self._clock()
        compared = self._comparison(now)
        newest = await self._query.rows(compared.add_row, now)
        for rows in self._table.slices(SLICE):
            for row in rows:
                if row.binding.subs_id not in self._newer:
                    compared.add_binding(row.binding, live=live(row, policy, now))
            await asyncio.sleep(0)
        plan = compared.plan(self._settings.config.source.max_removals, force=force)
        async with self._applying:
            plan = plan.without(self._newer)
            refusals = await self._apply(plan)
            # Even if it is earlier than what was seen meanwhile: reading rows twice does no harm.
            self._newest = newest
        return self._summary(plan, refusals)

    async def _changes(self) -> SyncReport:
        """read > diff > apply, with the rows that have changed"""
        async with self._applying:
            now = self._clock()
            compared, seen = self._comparison(now), list[str]()

            def take(row: Binding | BadRow) -> None:
                compared.add_row(row)
                if row.subs_id:
                    seen.append(row.subs_id)

            look_back = self._settings.config.source.look_back
            newest = await self._query.rows(take, now, self._newest, look_back)
            if self._comparing.locked():
                self._newer.update(seen)
            plan = compared.plan(0.0)
            refusals = await self._apply(plan)
            self._newest = newest
            return _combined(self.last, self._summary(plan, refusals))

    def _comparison(self, now: float) -> Comparison:
        policy = self._settings.policy
        return Comparison(self._binding, lambda binding: expired_locally(binding, policy, now))

    async def _apply(self, plan: SyncPlan) -> list[BadRow]:
        """Apply additions and updates, then removals, so that a binding with a new id always has a row.

        Returns the rows refused because they were registered by another client in the meantime.
        """
        refused = []
        wanted = [*plan.added, *plan.updated, *plan.unsound]
        for start in range(0, len(wanted), SLICE):
            part = wanted[start : start + SLICE]
            results = await self._registry.register(part, atomic=False)
            refused += [
                BadRow(binding.subs_id, result.field, str(result))
                for binding, result in zip(part, results, strict=True)
                if isinstance(result, Refusal)
            ]
        for start in range(0, len(plan.removed), SLICE):
            await self._registry.withdraw(plan.removed[start : start + SLICE], "source")
        return refused

    def _binding(self, subs_id: str) -> Binding | None:
        row = self._table.get(subs_id)
        return None if row is None else row.binding

    def _summary(self, plan: SyncPlan, refusals: list[BadRow]) -> SyncReport:
        counts = plan.counts()
        added = {binding.subs_id for binding in plan.added}
        for refusal in refusals:
            counts[SyncOutcome.ADDED if refusal.subs_id in added else SyncOutcome.UPDATED] -= 1
            counts[SyncOutcome.REFUSED] += 1
        now = self._clock()
        return SyncReport(
            at=now,
            compared_at=now,
            counts=counts,
            guard=plan.guard,
            refused=(*plan.examples, *refusals)[:EXAMPLES],
        )

    def _report(self, ended: SyncReport) -> None:
        """Update the metrics and log what is new: one line when an alarm begins, and one when it ends."""
        before = self.last
        self._metrics.source_syncs.labels("failed" if ended.error else "ok").inc()
        self._metrics.source_failing.set(bool(ended.error))
        if ended.error:
            if ended.error != before.error:
                log.error("source.failed", error=ended.error)
            return
        if before.error:
            log.warning("source.back")
        counts = ended.counts
        self._metrics.source_last_sync.set(ended.at)
        self._metrics.source_removals_refused.set(counts[SyncOutcome.WITHHELD])
        for outcome, count in counts.items():
            self._metrics.source_rows.labels(outcome).set(count)
        if ended.guard and not before.guard:
            log.error("source.removals_refused", why=ended.guard, cure="precall source apply --force")
        if before.guard and not ended.guard:
            log.warning("source.removals_released")
        if ended.refused and ended.refused != before.refused:
            first = ended.refused[0]
            log.warning(
                "source.rows_refused",
                rows=counts[SyncOutcome.REFUSED],
                first=first.subs_id or "",
                column=first.column,
                why=first.text,
            )
        moved = counts[SyncOutcome.ADDED] + counts[SyncOutcome.UPDATED] + counts[SyncOutcome.REMOVED]
        say = log.info if moved else log.debug
        say(
            "source.synced",
            seconds=round(ended.seconds, 3),
            **{str(outcome): n for outcome, n in counts.items() if n},
        )


def _combined(before: SyncReport, changes: SyncReport) -> SyncReport:
    """The report of a sync with changed rows, after the report before: what it could not see stays as it was."""
    room = EXAMPLES - len(before.refused)
    refused = [row for row in changes.refused if row not in before.refused][:room]
    moved = {name: changes.counts[name] for name in (SyncOutcome.ADDED, SyncOutcome.UPDATED)}
    counts = before.counts | moved | {SyncOutcome.REMOVED: 0}
    counts[SyncOutcome.REFUSED] += len(refused)
    return replace(
        before, at=changes.at, counts=counts, refused=(*before.refused, *refused), error=changes.error
    )


def _unexpected(error: BaseException) -> str:
    said = masked(str(error).strip().partition("\n")[0])
    return f"source: unexpected {type(error).__name__}{f': {said}' if said else ''}; the log has more of it"


async def preview(
    config: SourceConfig, stored: AsyncIterator[list[Packed]], policy: Policy, now: float
) -> SyncPlan:
    """Return what a sync would change in the `stored` rows, without writing.

    Raises ConfigError, OutOfReach, StoreError.
    """
    rows = {packed.subs_id: packed async for batch in stored for packed in batch}
    compared = Comparison(
        lambda subs_id: packed.row.binding if (packed := rows.get(subs_id)) else None,
        lambda binding: expired_locally(binding, policy, now),
    )
    await SourceQuery(config).rows(compared.add_row, now)
    for packed in rows.values():
        row = packed.row
        compared.add_binding(row.binding, live=live(row, policy, now))
    return compared.plan(config.max_removals)
