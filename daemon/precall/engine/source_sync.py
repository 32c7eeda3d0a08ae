"""Flow 3, bindings from the customer's own database: read > diff > guard > apply.

`core.sync.plan` decides which rows differ and which removals are refused; `core.sync.columns` turns a row into a
binding. A failure here changes no route: if the database or the query fails, all bindings stay as they are. The failure
is logged once, and shown by the metrics until it is fixed.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import tzinfo
from zoneinfo import ZoneInfo

from precall.config.schema import SourceConfig, secret
from precall.config.settings import Settings
from precall.core.errors import ConfigError, PrecallError, Refusal
from precall.core.model import Binding, Policy, Row
from precall.core.packing import Packed
from precall.core.routing.route import expired_locally, is_over
from precall.core.sync.columns import BadRow, Columns
from precall.core.sync.plan import EXAMPLES, Comparison, SyncOutcome, SyncPlan
from precall.engine.registry import Registry
from precall.store import ForeignDatabase
from precall.table.table import Table
from precall.telemetry.logging import get_logger
from precall.telemetry.metrics import Metrics
from precall.telemetry.redaction import masked

log = get_logger(__name__)

SLICE = 250
"""Bindings per transaction, and rows processed before yielding to the event loop."""


@dataclass(frozen=True, slots=True)
class SyncReport:
    """The latest successful sync: when it ended (Unix seconds, 0 for never), its duration in seconds, and its effects.

    `error` is why the latest sync failed, or "" if it succeeded.
    """

    at: float = 0.0
    seconds: float = 0.0
    counts: dict[SyncOutcome, int] = field(default_factory=lambda: dict.fromkeys(SyncOutcome, 0))
    guard: str = ""
    refused: tuple[BadRow, ...] = ()
    error: str = ""


class SourceQuery:
    """The configured query on the customer's database. Raises ConfigError for unusable settings."""

    def __init__(self, config: SourceConfig) -> None:
        self._query = config.query
        self._zone: tzinfo | None = ZoneInfo(config.timezone) if config.timezone else None
        self._database = ForeignDatabase(secret(config.url, config.url_file, "source.url_file"))

    async def rows(self, take: Callable[[Binding | BadRow], None]) -> None:
        """Call `take` for each row. Raises ConfigError, OutOfReach."""
        columns: Columns | None = None
        taken = 0

        def convert(names: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
            nonlocal columns, taken
            columns = columns or _columns(names, self._zone)
            for taken, row in enumerate(rows, taken + 1):  # noqa: B020  continues the count of the last slice
                take(_with_position(columns.read(row), taken))

        await self._database.read(self._query, convert)


def _columns(names: Sequence[str], zone: tzinfo | None) -> Columns:
    try:
        return Columns(names, zone)
    except ConfigError as error:
        # A column without an alias is named after its expression, which may contain a value.
        raise ConfigError([masked(mistake) for mistake in error.mistakes]) from None


def _with_position(row: Binding | BadRow, position: int) -> Binding | BadRow:
    """Identify a bad row without an id by its position in the result, counted from 1."""
    if isinstance(row, BadRow) and not row.subs_id:
        return replace(row, text=f"{row.text} (row {position} of the result)")
    return row


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
        self._lock = asyncio.Lock()
        self._in_step_at = monotonic()

    @property
    def age(self) -> float:
        """Seconds since the latest successful sync, or since the start if there is none."""
        return self._monotonic() - self._in_step_at

    @property
    def every(self) -> float:
        """The configured interval between syncs, in seconds."""
        return self._settings.config.source.every

    async def sync(self, *, force: bool = False) -> SyncReport:
        """Synchronize the bindings. `force` applies removals regardless of their number.

        Any error makes it a failed sync, which is reported; the next sync tries again.
        """
        async with self._lock:
            started = self._monotonic()
            try:
                plan = await self._compare(force=force)
                refusals = await self._apply(plan)
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
                ended = self._summary(plan, refusals, self._monotonic() - started)
                self._in_step_at = self._monotonic()
            self._report(ended)
            self.last = ended
            return ended

    async def _compare(self, *, force: bool) -> SyncPlan:
        """read > diff > guard"""
        policy, now = self._settings.policy, self._clock()
        compared = Comparison(self._binding, lambda binding: expired_locally(binding, policy, now))
        await self._query.rows(compared.add_row)
        for rows in self._table.slices(SLICE):
            for row in rows:
                compared.add_binding(row.binding, live=live(row, policy, now))
            await asyncio.sleep(0)
        return compared.plan(self._settings.config.source.max_removals, force=force)

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

    def _summary(self, plan: SyncPlan, refusals: list[BadRow], seconds: float) -> SyncReport:
        counts = plan.counts()
        added = {binding.subs_id for binding in plan.added}
        for refusal in refusals:
            counts[SyncOutcome.ADDED if refusal.subs_id in added else SyncOutcome.UPDATED] -= 1
            counts[SyncOutcome.REFUSED] += 1
        return SyncReport(
            at=self._clock(),
            seconds=seconds,
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
    await SourceQuery(config).rows(compared.add_row)
    for packed in rows.values():
        row = packed.row
        compared.add_binding(row.binding, live=live(row, policy, now))
    return compared.plan(config.max_removals)
