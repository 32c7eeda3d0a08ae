"""Reported calls in the database: filed, asked for when due, read, counted, retired; and the provider's own reports of
numbers.

What several words about one call come to is decided in `core.calls`. There may be hundreds of thousands of them that
wait: nothing here reads them all but the report, and that by an index on time.
"""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from operator import attrgetter
from typing import Any, Protocol, TypeVar

from sqlalchemy import and_, bindparam, delete, func, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from precall.core.calls.call import Call, CallResult, CallSource, merge
from precall.store.bulk import SLICE, execute_many, insert_new, upsert
from precall.store.schema import calls, number_reports, route_changes

T = TypeVar("T")
Work = Callable[[AsyncConnection], Awaitable[T]]

REPORT_SIZE = 30_000
"""How many rows' worth of time a report may take."""

_COLUMNS = tuple(column.name for column in calls.columns)
_values = attrgetter(*_COLUMNS)
_KNOWN = select(calls).where(calls.c.call_id.in_(bindparam("ids", expanding=True)))
_STATES = select(calls.c.call_id, calls.c.route_state).where(
    calls.c.call_id.in_(bindparam("ids", expanding=True))
)
_POSTPONE = (
    update(calls)
    .where(calls.c.call_id == bindparam("of_call_id"), calls.c.next_at.is_not(None))
    .values(next_at=bindparam("next_at"))
)
# The route as it was told when the call was placed: by the newest change that is not after it.
_earlier = route_changes.alias("earlier")
_newest = select(func.max(_earlier.c.index)).where(
    _earlier.c.subs_id == bindparam("of_subs_id"), _earlier.c.at <= bindparam("of_called_at")
)
_DIALLED = (
    update(calls)
    .where(calls.c.call_id == bindparam("of_call_id"), route_changes.c.index == _newest.scalar_subquery())
    .values(route_state=route_changes.c.to_state)
)


@dataclass(frozen=True, slots=True)
class StoredCall:
    """A call as it stands now, its result before it was told of (None: it was not known), and whether anything of it
    changed."""

    call: Call
    before: CallResult | None
    changed: bool = True


@dataclass(frozen=True, slots=True)
class PollBacklog:
    """How many calls wait to be asked about, how many of them are due, and since when the first of these is."""

    waiting: int
    due: int
    due_since: float | None


class Transact(Protocol):
    """Runs some work in a transaction; `size` are the rows it may take time for."""

    async def __call__(self, work: Work[T], size: int = 1) -> T: ...


class CallBook:
    """All calls that were reported. Its methods raise StoreUnavailable, as those of `Store`."""

    def __init__(self, write: Transact, read: Transact) -> None:
        self._write, self._read = write, read

    async def file(self, told: Sequence[Call]) -> list[StoredCall]:
        """Store what is told of calls, merged with what is known of them; all of it, or nothing. Gives each of these
        calls once."""

        async def work(connection: AsyncConnection) -> list[StoredCall]:
            found: list[StoredCall] = []
            for start in range(0, len(told), SLICE):
                found += await _file(connection, told[start : start + SLICE])
            return found

        return await self._write(work, len(told))

    async def postpone(self, times: Iterable[tuple[str, float | None]]) -> None:
        """Ask about these calls (ids) at these times, or (None) never again."""
        rows = [{"of_call_id": call_id, "next_at": at} for call_id, at in times]
        await self._write(lambda connection: execute_many(connection, _POSTPONE, rows), len(rows))

    async def recall(self, now: float, furthest: float) -> None:
        """Ask now about the calls that were to be asked about after `furthest`."""
        ahead = update(calls).where(calls.c.next_at > furthest).values(next_at=now)
        await self._write(lambda connection: connection.execute(ahead))

    async def due(self, now: float, limit: int) -> tuple[list[Call], list[Call]]:
        """At most `limit` each of the calls to be asked about by `now`: the longest due, and the latest due."""

        async def work(connection: AsyncConnection) -> tuple[list[Call], list[Call]]:
            wanted = select(calls).where(calls.c.next_at <= now).limit(limit)
            oldest = await _read(connection, wanted.order_by(calls.c.next_at))
            if len(oldest) < limit:
                return oldest, []
            return oldest, await _read(connection, wanted.order_by(calls.c.next_at.desc()))

        return await self._read(work)

    async def backlog(self, now: float) -> PollBacklog:
        """What waits."""

        async def work(connection: AsyncConnection) -> PollBacklog:
            when = calls.c.next_at
            waiting = await connection.scalar(select(func.count(when)).where(when.is_not(None)))
            due, since = (
                await connection.execute(select(func.count(when), func.min(when)).where(when <= now))
            ).one()
            return PollBacklog(waiting or 0, due, since)

        return await self._read(work, REPORT_SIZE)

    async def get(self, call_id: str) -> Call | None:
        """One call, or None."""
        found = await self._read(lambda c: _read(c, select(calls).where(calls.c.call_id == call_id)))
        return found[0] if found else None

    async def page(
        self,
        *,
        before: tuple[float, str] | None,
        limit: int,
        result: CallResult | None = None,
        subs_id: str | None = None,
    ) -> list[Call]:
        """Calls, the latest placed first; `before` is (called_at, call_id) of the last one of the page before."""
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

    async def counts(self, since: float) -> list[tuple[str, str, str, str, int]]:
        """(pool, state when dialled, result, state of the call, how many) of the calls placed from `since` on."""
        groups = (calls.c.pool_key, calls.c.route_state, calls.c.result, calls.c.state)
        wanted = select(*groups, func.count()).where(calls.c.called_at >= since).group_by(*groups)

        async def work(connection: AsyncConnection) -> list[tuple[str, str, str, str, int]]:
            return [tuple(row) for row in await connection.execute(wanted)]

        return await self._read(work, REPORT_SIZE)

    async def ended(self, since: float, limit: int) -> list[Call]:
        """The calls placed from `since` on whose end is known, the latest first."""
        over = (CallResult.CONNECTED.value, CallResult.FAILED.value, CallResult.NOT_CONNECTED.value)
        wanted = select(calls).where(calls.c.called_at >= since, calls.c.result.in_(over))
        wanted = wanted.order_by(calls.c.called_at.desc()).limit(limit)
        return await self._read(lambda connection: _read(connection, wanted), REPORT_SIZE)

    async def file_numbers(self, told: Sequence[tuple[str, float, bool]], now: float) -> None:
        """Store that the numbers of bindings (ids) were reported, when, and whether as abnormal."""
        rows = [
            {"subs_id": subs_id, "at": at, "abnormal": abnormal, "received_at": now}
            for subs_id, at, abnormal in told
        ]
        await self._write(
            lambda c: execute_many(c, insert_new(c.dialect.name, number_reports), rows), len(rows)
        )

    async def numbers(self, since: float) -> list[tuple[str, float, bool]]:
        """What was stored by `file_numbers` from `since` on, in the order of the reported times."""
        told = number_reports.c
        wanted = (
            select(told.subs_id, told.at, told.abnormal).where(told.received_at >= since).order_by(told.at)
        )

        async def work(connection: AsyncConnection) -> list[tuple[str, float, bool]]:
            return [tuple(row) for row in await connection.execute(wanted)]

        return await self._read(work)

    async def retire(self, before: float, batch: int = 5000) -> int:
        """Delete calls placed, and reports of numbers received, before `before`, in short transactions. Gives how
        many."""

        async def work(connection: AsyncConnection) -> int:
            old = (
                select(calls.c.call_id)
                .where(calls.c.called_at < before)
                .order_by(calls.c.called_at)
                .limit(batch)
            )
            gone = await connection.execute(delete(calls).where(calls.c.call_id.in_(old)))
            await connection.execute(delete(number_reports).where(number_reports.c.received_at < before))
            return gone.rowcount

        total = gone = await self._write(work, batch)
        while gone == batch:
            gone = await self._write(work, batch)
            total += gone
        return total


async def _file(connection: AsyncConnection, told: Sequence[Call]) -> list[StoredCall]:
    known = {
        call.call_id: call for call in await _read(connection, _KNOWN, {"ids": [one.call_id for one in told]})
    }
    stands = dict(known)
    for one in told:
        there = stands.get(one.call_id)
        stands[one.call_id] = one if there is None else merge(there, one)
    ids = dict.fromkeys(one.call_id for one in told)
    changed = [stands[call_id] for call_id in ids if stands[call_id] != known.get(call_id)]
    dialect = connection.dialect.name
    await execute_many(connection, upsert(dialect, calls), map(_row, changed))
    fresh = [call for call in changed if call.call_id not in known and call.subs_id]
    await execute_many(connection, _DIALLED, map(_dialled, fresh))
    for call_id, state in await connection.execute(_STATES, {"ids": [call.call_id for call in fresh]}):
        if state != stands[call_id].route_state:
            stands[call_id] = replace(stands[call_id], route_state=state)
    written = {call.call_id for call in changed}
    return [
        StoredCall(stands[call_id], known[call_id].result if call_id in known else None, call_id in written)
        for call_id in ids
    ]


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
