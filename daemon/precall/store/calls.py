"""Reported calls, and the provider's reports about numbers, in the database.

`core.calls` decides how several reports of one call are merged. Hundreds of thousands of calls may be waiting, so only
the aggregate report reads all of them, by an index on time.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from operator import attrgetter
from typing import Any, Protocol, TypeVar

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Text,
    and_,
    bindparam,
    case,
    cast,
    delete,
    func,
    literal_column,
    or_,
    select,
    update,
)
from sqlalchemy.ext.asyncio import AsyncConnection

from precall.core.calls.call import Call, CallResult, CallSource, merge
from precall.core.calls.observed import ObservedExample
from precall.core.calls.statistics import HOUR
from precall.core.model import EVERY_POOL, Action, Reason
from precall.store.attempt import Work
from precall.store.bulk import SLICE, execute_many, insert_new, upsert
from precall.store.schema import calls, number_reports, observed_pools, policy, route_changes

T = TypeVar("T")

REPORT_SIZE = 30_000
"""The deadline of a report is that of a batch of this many rows."""

_COLUMNS = tuple(column.name for column in calls.columns)
_values = attrgetter(*_COLUMNS)
_KNOWN = select(calls).where(calls.c.call_id.in_(bindparam("ids", expanding=True)))
_ROUTES = select(calls.c.call_id, calls.c.route_state, calls.c.route_action).where(
    calls.c.call_id.in_(bindparam("ids", expanding=True))
)
_POSTPONE = (
    update(calls)
    .where(calls.c.call_id == bindparam("of_call_id"), calls.c.next_at.is_not(None))
    .values(next_at=bindparam("next_at"))
)


def _text(value: str) -> ColumnElement[str]:
    """A constant within a statement for many rows, which takes no other parameters than those of a row."""
    return literal_column(f"'{value}'", Text)


# The route published when the call was placed: that of the newest change no later than the call.
_earlier = route_changes.alias("earlier")
_newest = select(func.max(_earlier.c.index)).where(
    _earlier.c.subs_id == bindparam("of_subs_id"), _earlier.c.at <= bindparam("of_called_at")
)
_skew = select(policy.c.skew).where(policy.c.id == literal_column("1")).scalar_subquery()
_decided = case(
    (route_changes.c.reason == _text(Reason.REMOVED), _text("")),
    (
        route_changes.c.expires_at - func.coalesce(_skew, literal_column("0")) <= calls.c.called_at,
        _text(Action.EXPIRED),
    ),
    (route_changes.c.would_action != _text(""), route_changes.c.would_action),
    else_=route_changes.c.action,
)
_DIALLED = (
    update(calls)
    .where(calls.c.call_id == bindparam("of_call_id"), route_changes.c.index == _newest.scalar_subquery())
    .values(route_state=route_changes.c.to_state, route_action=_decided)
)


_answered = route_changes.alias("answered")
_EXAMPLE = ("pool_key", "call_id", "subs_id", "called_at", "result", "route_action")
_OVER = (CallResult.CONNECTED.value, CallResult.FAILED.value, CallResult.NOT_CONNECTED.value)
_OBSERVED: tuple[ColumnElement[bool], ...] = (
    calls.c.pool_key != "",
    calls.c.result.in_(_OVER),
    select(observed_pools.c.id)
    .where(
        or_(observed_pools.c.pool_key == EVERY_POOL, observed_pools.c.pool_key == calls.c.pool_key),
        observed_pools.c.since <= calls.c.called_at,
        or_(observed_pools.c.until.is_(None), calls.c.called_at < observed_pools.c.until),
    )
    .exists(),
)
"""Calls that have ended, and were placed while their pool was only observed."""


@dataclass(frozen=True, slots=True)
class StoredCall:
    """A call after a report was merged into it.

    `before` is its previous result (None for a new call), `changed` whether the report changed anything.
    """

    call: Call
    before: CallResult | None
    changed: bool = True


@dataclass(frozen=True, slots=True)
class PollBacklog:
    """Number of calls still to be queried, how many of them are due, and since when (Unix seconds)."""

    waiting: int
    due: int
    due_since: float | None


class Transact(Protocol):
    """Run `work` in a transaction whose deadline allows for `size` rows."""

    async def __call__(self, work: Work[T], size: int = 1) -> T: ...


class CallBook:
    """The table of reported calls. Methods raise StoreUnavailable, like those of `Store`."""

    def __init__(self, write: Transact, read: Transact) -> None:
        self._write, self._read = write, read

    async def file(self, reports: Sequence[Call]) -> list[StoredCall]:
        """Merge `reports` into the stored calls, in one transaction. Return each of these calls once."""

        async def work(connection: AsyncConnection) -> list[StoredCall]:
            stored: list[StoredCall] = []
            for start in range(0, len(reports), SLICE):
                stored += await _file(connection, reports[start : start + SLICE])
            return stored

        return await self._write(work, len(reports))

    async def postpone(self, times: Iterable[tuple[str, float | None]]) -> None:
        """Set when each call (by id) is next queried: a time in Unix seconds, or None for never."""
        rows = [{"of_call_id": call_id, "next_at": at} for call_id, at in times]
        await self._write(lambda connection: execute_many(connection, _POSTPONE, rows), len(rows))

    async def make_due(self, now: float, furthest: float) -> None:
        """Make every call due now that was scheduled for a time after `furthest`."""
        ahead = update(calls).where(calls.c.next_at > furthest).values(next_at=now)
        await self._write(lambda connection: connection.execute(ahead))

    async def due(self, now: float, limit: int) -> tuple[list[Call], list[Call]]:
        """Return two lists of at most `limit` calls due at `now`: the longest overdue, and the most recently due."""

        async def work(connection: AsyncConnection) -> tuple[list[Call], list[Call]]:
            wanted = select(calls).where(calls.c.next_at <= now).limit(limit)
            oldest = await _read(connection, wanted.order_by(calls.c.next_at))
            if len(oldest) < limit:
                return oldest, []
            return oldest, await _read(connection, wanted.order_by(calls.c.next_at.desc()))

        return await self._read(work)

    async def backlog(self, now: float) -> PollBacklog:
        """Return how many calls wait, and how many of them are due."""

        async def work(connection: AsyncConnection) -> PollBacklog:
            when = calls.c.next_at
            waiting = await connection.scalar(select(func.count(when)).where(when.is_not(None)))
            due, since = (
                await connection.execute(select(func.count(when), func.min(when)).where(when <= now))
            ).one()
            return PollBacklog(waiting or 0, due, since)

        return await self._read(work, REPORT_SIZE)

    async def get(self, call_id: str) -> Call | None:
        """Return one call, or None if it is unknown."""
        matches = await self._read(lambda c: _read(c, select(calls).where(calls.c.call_id == call_id)))
        return matches[0] if matches else None

    async def page(
        self,
        *,
        before: tuple[float, str] | None,
        limit: int,
        result: CallResult | None = None,
        subs_id: str | None = None,
    ) -> list[Call]:
        """Return one page of calls, newest first.

        `before` is (called_at, call_id) of the last call on the previous page.
        """
        wanted = select(calls)
        if before is not None:
            at, call_id = before
            after = and_(calls.c.called_at == at, calls.c.call_id < call_id)
            wanted = wanted.where(calls.c.called_at <= at, or_(calls.c.called_at < at, after))
        if result is not None:
            wanted = wanted.where(calls.c.result == result.value)
        if subs_id is not None:
            wanted = wanted.where(calls.c.subs_id == subs_id)
        wanted = wanted.order_by(calls.c.called_at.desc(), calls.c.call_id.desc()).limit(limit)
        return await self._read(lambda connection: _read(connection, wanted), REPORT_SIZE)

    async def counts(self, since: float, pool_key: str | None = None) -> list[tuple[str, str, str, str, int]]:
        """Count the calls placed since `since`: (pool, route state when dialled, result, call state, count)."""
        groups = (calls.c.pool_key, calls.c.route_state, calls.c.result, calls.c.state)
        wanted = select(*groups, func.count()).where(*_placed(since, pool_key)).group_by(*groups)

        async def work(connection: AsyncConnection) -> list[tuple[str, str, str, str, int]]:
            return [tuple(row) for row in await connection.execute(wanted)]

        return await self._read(work, REPORT_SIZE)

    async def hourly_counts(self, since: float, pool_key: str | None = None) -> list[tuple[int, str, int]]:
        """Count the calls placed since `since`: (hours since 1970 when placed, result, count)."""
        hours = calls.c.called_at / HOUR

        async def work(connection: AsyncConnection) -> list[tuple[int, str, int]]:
            # PostgreSQL rounds where SQLite cuts off, and not every SQLite has floor.
            whole = hours if connection.dialect.name == "sqlite" else func.floor(hours)
            groups = (cast(whole, BigInteger).label("hour"), calls.c.result)
            wanted = select(*groups, func.count()).where(*_placed(since, pool_key)).group_by(*groups)
            return [tuple(row) for row in await connection.execute(wanted)]

        return await self._read(work, REPORT_SIZE)

    async def observed_counts(
        self, since: float, pool_key: str | None = None
    ) -> list[tuple[str, str, str, int]]:
        """Count the ended calls placed since `since` while their pool was only observed.

        Rows are (pool, result, action that precall decided, count).
        """
        groups = (calls.c.pool_key, calls.c.result, calls.c.route_action)
        wanted = select(*groups, func.count()).where(*_placed(since, pool_key), *_OBSERVED).group_by(*groups)

        async def work(connection: AsyncConnection) -> list[tuple[str, str, str, int]]:
            return [tuple(row) for row in await connection.execute(wanted)]

        return await self._read(work, REPORT_SIZE)

    async def observed_examples(
        self, since: float, pool_key: str | None = None, *, each: int
    ) -> list[ObservedExample]:
        """Return calls of `observed_counts` that failed or connected and would have gone another way, newest first.

        There are at most `each` of either kind per pool.
        """
        place = func.row_number().over(
            partition_by=(calls.c.pool_key, calls.c.result),
            order_by=(calls.c.called_at.desc(), calls.c.call_id),
        )
        other = calls.c.route_action.not_in(("", Action.DIAL_X.value))
        judged = calls.c.result.in_((CallResult.CONNECTED.value, CallResult.FAILED.value))
        named = (calls.c[name] for name in _EXAMPLE)
        ranked = select(*named, place.label("place"))
        picked = ranked.where(*_placed(since, pool_key), *_OBSERVED, other, judged).subquery()
        newest = func.max(_earlier.c.index)
        before = (_earlier.c.subs_id == picked.c.subs_id, _earlier.c.at <= picked.c.called_at)
        change = select(newest).where(*before).scalar_subquery()
        answer = select(newest).where(*before, _earlier.c.request_id != "").scalar_subquery()
        wanted = (
            select(
                *(picked.c[name] for name in _EXAMPLE),
                case(
                    (route_changes.c.would_reason != "", route_changes.c.would_reason),
                    else_=route_changes.c.reason,
                ),
                func.coalesce(_answered.c.request_id, ""),
            )
            .select_from(picked)
            .join(route_changes, route_changes.c.index == change)
            .join(_answered, _answered.c.index == answer, isouter=True)
            .where(picked.c.place <= each)
            .order_by(picked.c.pool_key, picked.c.called_at.desc())
        )

        async def work(connection: AsyncConnection) -> list[ObservedExample]:
            return [ObservedExample(*tuple(row)) for row in await connection.execute(wanted)]

        return await self._read(work, REPORT_SIZE)

    async def ended(self, since: float, limit: int) -> list[Call]:
        """Return the calls placed since `since` whose result is final, newest first."""
        wanted = select(calls).where(calls.c.called_at >= since, calls.c.result.in_(_OVER))
        wanted = wanted.order_by(calls.c.called_at.desc()).limit(limit)
        return await self._read(lambda connection: _read(connection, wanted), REPORT_SIZE)

    async def file_numbers(self, reports: Sequence[tuple[str, float, bool]], now: float) -> None:
        """Store reports about the numbers of bindings: (subs_id, time in Unix seconds, whether abnormal)."""
        rows = [
            {"subs_id": subs_id, "at": at, "abnormal": abnormal, "received_at": now}
            for subs_id, at, abnormal in reports
        ]
        await self._write(
            lambda c: execute_many(c, insert_new(c.dialect.name, number_reports), rows), len(rows)
        )

    async def numbers(self, since: float) -> list[tuple[str, float, bool]]:
        """Return the reports that `file_numbers` stored since `since`, ordered by their own times."""
        report = number_reports.c
        wanted = (
            select(report.subs_id, report.at, report.abnormal)
            .where(report.received_at >= since)
            .order_by(report.at)
        )

        async def work(connection: AsyncConnection) -> list[tuple[str, float, bool]]:
            return [tuple(row) for row in await connection.execute(wanted)]

        return await self._read(work)

    async def retire(self, before: float, batch: int = 5000) -> int:
        """Delete calls placed and number reports received before `before`, `batch` calls per transaction.

        Returns the number of calls deleted.
        """

        async def work(connection: AsyncConnection) -> int:
            old = (
                select(calls.c.call_id)
                .where(calls.c.called_at < before)
                .order_by(calls.c.called_at)
                .limit(batch)
            )
            gone = await connection.execute(delete(calls).where(calls.c.call_id.in_(old)))
            await connection.execute(delete(number_reports).where(number_reports.c.received_at < before))
            await connection.execute(delete(observed_pools).where(observed_pools.c.until < before))
            return gone.rowcount

        total = gone = await self._write(work, batch)
        while gone == batch:
            gone = await self._write(work, batch)
            total += gone
        return total


def _placed(since: float, pool_key: str | None) -> list[ColumnElement[bool]]:
    recent = calls.c.called_at >= since
    return [recent] if pool_key is None else [recent, calls.c.pool_key == pool_key]


async def _file(connection: AsyncConnection, reports: Sequence[Call]) -> list[StoredCall]:
    ids = list(dict.fromkeys(report.call_id for report in reports))
    known = {call.call_id: call for call in await _read(connection, _KNOWN, {"ids": ids})}
    merged = dict(known)
    for report in reports:
        earlier = merged.get(report.call_id)
        merged[report.call_id] = report if earlier is None else merge(earlier, _as_placed(report, earlier))
    changed = [merged[call_id] for call_id in ids if merged[call_id] != known.get(call_id)]
    dialect = connection.dialect.name
    await execute_many(connection, upsert(dialect, calls), map(_row, changed))
    fresh = [call for call in changed if call.call_id not in known and call.subs_id]
    await execute_many(connection, _DIALLED, map(_dialled, fresh))
    ids_of_fresh = [call.call_id for call in fresh]
    for call_id, state, action in await connection.execute(_ROUTES, {"ids": ids_of_fresh}):
        if (state, action) != (merged[call_id].route_state, merged[call_id].route_action):
            merged[call_id] = replace(merged[call_id], route_state=state, route_action=action)
    written = {call.call_id for call in changed}
    return [
        StoredCall(merged[call_id], known[call_id].result if call_id in known else None, call_id in written)
        for call_id in ids
    ]


def _as_placed(report: Call, earlier: Call) -> Call:
    """Keep the route state stored with the first report: a later report knows only the current one."""
    return report.with_route(report.pool_key, earlier.route_state) if earlier.route_state else report


async def _read(connection: AsyncConnection, wanted: Any, given: dict[str, Any] | None = None) -> list[Call]:
    return [_call(row) for row in (await connection.execute(wanted, given or {})).mappings()]


def _call(row: Any) -> Call:
    facts = {name: row[name] for name in _COLUMNS}
    return Call(
        **facts
        | {"result": CallResult(row["result"] or CallResult.PENDING), "source": CallSource(row["source"])}
    )


def _row(call: Call) -> dict[str, Any]:
    facts: dict[str, Any] = dict(zip(_COLUMNS, _values(call), strict=True))
    return facts | {"result": call.result.value, "source": call.source.value}


def _dialled(call: Call) -> dict[str, Any]:
    return {"of_call_id": call.call_id, "of_subs_id": call.subs_id, "of_called_at": call.called_at}
