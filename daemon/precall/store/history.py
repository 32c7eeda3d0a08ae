"""Check results, folded into runs, and the change feed: appending, paging and retention.

Lookups do not depend on any of this.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from typing import Any

from sqlalchemy import Table, and_, bindparam, delete, func, insert, literal_column, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from precall.core.errors import StoreError
from precall.core.model import Action, Change, Check, WriteCause
from precall.core.planning.sample import DialRecord
from precall.core.routing.route import removed
from precall.store.bulk import SLICE, execute_many, insert_new
from precall.store.cipher import Cipher
from precall.store.schema import REAL, check_results, dial_log, exposures, route_changes, routes
from precall.store.sealed_columns import CHANGES, RESULTS

Run = dict[str, Any]
"""A row of `check_results`, or the columns needed to decide whether a check continues it. It has `id` once stored."""

IDENTITY = ("generation", "result", "status", "number", "extension", "code")
"""Columns in which two checks of a binding must agree to belong to one run."""

_older = check_results.alias("older")
_NEWEST = (
    select(*(check_results.c[name] for name in ("id", "subs_id", *IDENTITY, "last_seq", "count")))
    .select_from(routes)
    .join(
        check_results,
        and_(
            check_results.c.subs_id == routes.c.subs_id,
            check_results.c.first_seq
            == select(func.max(_older.c.first_seq))
            .where(_older.c.subs_id == routes.c.subs_id)
            .scalar_subquery(),
        ),
    )
    .where(routes.c.subs_id.in_(bindparam("ids", expanding=True)))
)

_TAIL = ("last_seq", "last_at", "count", "request_id", "seconds")
_EXTEND = (
    update(check_results)
    .where(check_results.c.id == bindparam("of_id"))
    .values({name: bindparam(name) for name in _TAIL})
)
_LOG = insert(dial_log)

SCAN = 20_000
"""Changes scanned per page when a filter is set: about 10 ms."""

RETIRED = (check_results, route_changes, exposures, dial_log)
SPANS = {
    "check_results": ("first_at", "last_at"),
    "route_changes": ("at", "at"),
    "exposures": ("first_at", "last_at"),
    "dial_log": ("at", "at"),
}
"""The columns that hold the beginning and the end of a row of each table."""


_first = select(func.max(_older.c.first_seq)).where(_older.c.subs_id == bindparam("of_subs_id"))
_CONTINUE = (
    update(check_results)
    .where(check_results.c.subs_id == bindparam("of_subs_id"))
    .where(check_results.c.first_seq == _first.scalar_subquery())
    .where(*(check_results.c[name] == bindparam(f"of_{name}") for name in IDENTITY))
    .where(check_results.c.last_seq < bindparam("last_seq"))
    .values({name: bindparam(name) for name in _TAIL if name != "count"})
    .values(count=check_results.c.count + literal_column("1"))
)


async def append(connection: AsyncConnection, changes: Iterable[Change], cipher: Cipher) -> None:
    """Append `changes` to the feed, except quiet ones."""
    rows = (CHANGES.seal(cipher, row) for change in changes if not change.quiet for row in _rows(change))
    await execute_many(connection, insert_new(connection.dialect.name, route_changes), rows)


async def record(connection: AsyncConnection, checks: Iterable[Check], cipher: Cipher, *, fold: bool) -> None:
    """Store `checks`. With `fold`, a check equal to its binding's newest run extends that run.

    A check no newer than that run was stored before, by a transaction that was believed to have failed. It is skipped.
    """
    insert = insert_new(connection.dialect.name, check_results)
    in_order = iter(sorted(checks, key=lambda check: check.seq))
    while part := list(islice(in_order, SLICE)):
        new = [_new_run(check) for check in part] if not fold else await _extend(connection, part, cipher)
        await execute_many(connection, insert, (RESULTS.seal(cipher, run) for run in new))


async def _extend(connection: AsyncConnection, checks: Sequence[Check], cipher: Cipher) -> list[Run]:
    """Extend the runs that `checks` continue. Return new runs for the other checks."""
    ids = {check.subs_id for check in checks}
    if len(ids) == len(checks):
        # The common case: every check continues its run. Otherwise the code below skips those already extended.
        continued = await execute_many(
            connection, _CONTINUE, (_continuation(check, cipher) for check in checks)
        )
        if continued == len(checks):
            return []
    newest = await connection.execute(_NEWEST, {"ids": sorted(ids)})
    extended, new = _fold(checks, {run["subs_id"]: _opened(run, cipher) for run in newest.mappings()})
    await execute_many(connection, _EXTEND, extended)
    return new


def _opened(run: Mapping[Any, Any], cipher: Cipher) -> Run:
    """Open a stored run. One that does not open stays sealed, and so matches no check."""
    try:
        return RESULTS.open(cipher, run)
    except StoreError:
        return dict(run)


def _fold(checks: Sequence[Check], newest: dict[str, Run]) -> tuple[list[Run], list[Run]]:
    """Assign `checks`, in the order of their `seq`, to runs. Return (parameters of `_EXTEND`, new runs)."""
    grown: dict[int, Run] = {}
    new: list[Run] = []
    for check in checks:
        run = newest.get(check.subs_id)
        if run is not None and check.seq <= run["last_seq"]:
            continue
        if run is None or any(run[name] != getattr(check, name) for name in IDENTITY):
            run = newest[check.subs_id] = _new_run(check)
            new.append(run)
            continue
        run["count"] += 1
        run["last_seq"], run["last_at"] = check.seq, check.asked_at
        run["request_id"], run["seconds"] = check.request_id, check.seconds
        if "id" in run:
            grown[run["id"]] = run
    return [{"of_id": id_, **{name: run[name] for name in _TAIL}} for id_, run in grown.items()], new


def _continuation(check: Check, cipher: Cipher) -> dict[str, Any]:
    answer = {"subs_id": check.subs_id, "number": check.number, "extension": check.extension}
    sealed = RESULTS.seal(cipher, answer)
    return {
        "of_subs_id": check.subs_id,
        "of_generation": check.generation,
        "of_result": str(check.result),
        "of_status": int(check.status),
        "of_number": sealed["number"],
        "of_extension": sealed["extension"],
        "of_code": check.code,
        "last_seq": check.seq,
        "last_at": check.asked_at,
        "request_id": check.request_id,
        "seconds": check.seconds,
    }


def _new_run(check: Check) -> Run:
    return {
        "subs_id": check.subs_id,
        "generation": check.generation,
        "result": str(check.result),
        "status": int(check.status),
        "number": check.number,
        "extension": check.extension,
        "code": check.code,
        "first_seq": check.seq,
        "last_seq": check.seq,
        "first_at": check.asked_at,
        "last_at": check.asked_at,
        "count": 1,
        "request_id": check.request_id,
        "seconds": check.seconds,
    }


def _rows(change: Change) -> Iterator[dict[str, Any]]:
    """Build the feed rows of a change. Moving a binding to another pool begins with a removal from the old one."""
    if change.left:
        gone = removed(change.route, change.route.version - 1, change.index - 1)
        yield _feed_row(
            replace(
                change,
                index=gone.index,
                cause=WriteCause.REMOVED,
                pool_key=change.left,
                row=None,
                route=gone,
                check=None,
            )
        )
    yield _feed_row(change)


def _feed_row(change: Change) -> dict[str, Any]:
    route = change.route
    # Withheld by the caller already. A real number in the feed would leave without an audit row.
    real = route.action is Action.DIAL_REAL
    return {
        "index": change.index,
        "subs_id": change.subs_id,
        "pool_key": change.pool_key,
        "generation": change.row.binding.generation if change.row else 0,
        "version": route.version,
        "at": change.at,
        "cause": change.cause.value,
        "from_state": change.before.value if change.before else "",
        "to_state": route.state.value,
        "action": route.action.value,
        "number": "" if real else route.number,
        "extension": "" if real else route.extension,
        "reason": route.reason.value,
        "flags": ",".join(route.flags),
        "status": int(route.status),
        "request_id": change.check.request_id if change.check else "",
        "expires_at": route.expires_at,
        "would_action": route.would.action.value if route.would else "",
        "would_reason": route.would.reason.value if route.would else "",
    }


async def log(connection: AsyncConnection, dials: Iterable[DialRecord]) -> None:
    """Append to the dial log."""
    await execute_many(connection, _LOG, (dial.plain() for dial in dials))


async def logged(connection: AsyncConnection, after_id: int, limit: int) -> list[dict[str, Any]]:
    """Return at most `limit` rows of the dial log with an id above `after_id`, oldest first."""
    wanted = select(dial_log).where(dial_log.c.id > after_id).order_by(dial_log.c.id).limit(limit)
    return [dict(row) for row in (await connection.execute(wanted)).mappings()]


async def page(
    connection: AsyncConnection, cipher: Cipher, subs_id: str, before: tuple[int, int] | None, limit: int
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return at most `limit` (runs, changes) of one binding, newest first. `before` is that of `Store.history`."""
    runs = select(check_results).where(check_results.c.subs_id == subs_id)
    changes = select(route_changes).where(route_changes.c.subs_id == subs_id)
    if before is not None:
        runs = runs.where(check_results.c.first_seq < before[0])
        changes = changes.where(route_changes.c.index < before[1])
    run_rows = await connection.execute(runs.order_by(check_results.c.first_seq.desc()).limit(limit))
    change_rows = await connection.execute(changes.order_by(route_changes.c.index.desc()).limit(limit))
    return (
        [RESULTS.open(cipher, row) for row in run_rows.mappings()],
        [CHANGES.open(cipher, row) for row in change_rows.mappings()],
    )


async def after(
    connection: AsyncConnection,
    cipher: Cipher,
    since: int,
    until: int,
    subs_ids: Collection[str],
    pool_keys: Collection[str],
    limit: int,
) -> tuple[list[dict[str, Any]], int]:
    """Return the changes and position described in `Store.changes`."""
    feed = route_changes.c
    scanned = select(feed.index).where(feed.index > since, feed.index <= until).order_by(feed.index)
    scanned = scanned.limit(SCAN if subs_ids or pool_keys else limit)
    reached = await connection.scalar(select(func.max(scanned.subquery().c.index)))
    if reached is None:
        return [], until
    wanted = select(route_changes).where(feed.index > since, feed.index <= reached)
    if subs_ids:
        wanted = wanted.where(feed.subs_id.in_(sorted(subs_ids)))
    if pool_keys:
        wanted = wanted.where(feed.pool_key.in_(sorted(pool_keys)))
    result = await connection.execute(wanted.order_by(feed.index).limit(limit))
    changes = [CHANGES.open(cipher, row) for row in result.mappings()]
    return changes, changes[-1]["index"] if len(changes) == limit else reached


async def turned(connection: AsyncConnection, since: float) -> list[tuple[str, float]]:
    """Return (pool, time) of each change after `since` in which an answer exposed a real number."""
    feed = route_changes.c
    changes = await connection.execute(
        select(feed.pool_key, feed.at).where(feed.at > since, REAL).order_by(feed.at)
    )
    return [(pool_key, at) for pool_key, at in changes]


async def retire(
    connection: AsyncConnection, table: Table, start: int, before: float, now: float, batch: int
) -> tuple[int, int, int | None]:
    """Delete rows that ended before `before` among the first `batch` rows of `table` from key `start` on.

    Returns (rows deleted, highest deleted key, key to continue from). The last is None once a slice contains only
    rows that began later.

    Keys rise with time, which spares every check the upkeep of an index on time. The exception is a clock that was
    set back: a slice that began after `now` is skipped, because it says nothing about the next one.
    """
    key = table.primary_key.columns[0]
    began, ended = SPANS[table.name]
    part = select(key, table.c[began]).where(key >= start).order_by(key).limit(batch).subquery()
    bounds = select(func.min(part.c[0]), func.max(part.c[0]), func.min(part.c[1]))
    first, last, earliest = (await connection.execute(bounds)).one()
    if first is None or before <= earliest <= now:
        return 0, 0, None
    if earliest > now:
        return 0, 0, last + 1
    over = and_(key.between(first, last), table.c[ended] < before)
    highest = await connection.scalar(select(func.max(key)).where(over))
    gone = await connection.execute(delete(table).where(over))
    return gone.rowcount, highest or 0, last + 1
