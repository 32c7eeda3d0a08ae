"""The pages Pools and one pool: how each pool fares, the worst first, from the same facts as `/v1/status`."""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from aiohttp import web

from precall.api.handlers import orders
from precall.api.problems import Code
from precall.api.schemas.fields import moment
from precall.api.schemas.routes import encode_route
from precall.api.schemas.status import encode_facts, encode_finding
from precall.console.render import render
from precall.console.visit import Visit
from precall.core.errors import Refusal, StoreUnavailable
from precall.core.model import Action, Row, State
from precall.core.rules import is_pool_key
from precall.core.status.finding import Severity
from precall.core.status.judge import TROUBLED
from precall.engine.services import Services
from precall.store import OrderFilter
from precall.table.feed import FeedFilter

MOST = 100
"""Pools on one page."""
FEW = 10
"""Entries of each list about one pool."""
SLICE = 250
"""Rows looked through at once, since all clients share the loop."""
LOOKED_THROUGH = 100_000
"""Rows looked through for bindings in trouble."""

_WORST = (Action.HOLD, Action.DIAL_REAL, Action.DIAL_TEMP_X)


async def show(visit: Visit) -> web.StreamResponse:
    """Show all pools, in parts."""
    given = visit.request.query.get("from", "0")
    begin = int(given) if given.isascii() and given.isdecimal() and len(given) < 7 else 0
    found = sorted(_pools(visit), key=_badness)
    return render(
        visit,
        "pools.html",
        pools=found[begin : begin + MOST],
        more=begin + MOST if begin + MOST < len(found) else 0,
    )


async def show_one(visit: Visit) -> web.StreamResponse:
    """Show one pool with its orders, latest changes and worst bindings."""
    pool_key, services = visit.request.match_info["pool_key"], visit.services
    pool = next((one for one in _pools(visit) if one["pool_key"] == pool_key), None)
    latest = services.feed.latest(FeedFilter(pool_keys=frozenset({pool_key})), FEW)
    try:
        given = await services.orders.page(OrderFilter(concerns=("", pool_key)), limit=FEW)
        ordered = orders.shown(given, visit.client)
    except StoreUnavailable:
        ordered = None
    if pool is None and not latest and not (is_pool_key(pool_key) and ordered):
        raise Refusal(404, Code.UNKNOWN_POOL, "there is no such pool")
    # Bindings in trouble are looked for in the whole table: not each second, for a page that only follows.
    follows = visit.request.headers.get("HX-Target") == "pool"
    in_trouble = sum(services.table.count(state, pool_key) for state in TROUBLED)
    return render(
        visit,
        "pool.html",
        pool_key=pool_key,
        pool=pool,
        active=bool(services.table.active(pool_key)),
        orders=ordered,
        changes=[{"at": moment(entry.at), **encode_route(entry.route)} for entry in latest],
        paused=pool_key in services.checker.plan.paused,
        braked=bool(pool and pool["brake"]["engaged_since"])
        or pool_key in services.checker.brake.halted_pools,
        in_trouble=in_trouble,
        worst=[] if follows else await _worst(services, pool_key, min(FEW, in_trouble)),
    )


def _pools(visit: Visit) -> Iterator[dict[str, Any]]:
    """Yield the pools, each with its findings in words and its bar."""
    state = visit.services.status.look()
    findings = [encode_finding(finding, visit.language) for finding in state.findings if finding.pool_key]
    for pool in encode_facts(state.facts)["pools"]:
        yield {
            **pool,
            "findings": [finding for finding in findings if finding["pool_key"] == pool["pool_key"]],
            "bar": _bar(pool["states"], pool["bindings"]),
            "oldest": pool.get("oldest_age"),
        }


def _bar(states: Mapping[str, int], bindings: int) -> Sequence[dict[str, Any]]:
    """Return the parts of a bar that is 100 wide: state, share, start and width."""
    parts, start = list[dict[str, Any]](), 0.0
    for state in State:
        if count := states.get(state, 0):
            share = count / bindings if bindings else 0.0
            parts.append(
                {"state": state, "share": share, "start": round(start, 3), "width": round(100 * share, 3)}
            )
            start += 100 * share
    return parts


def _badness(pool: Mapping[str, Any]) -> tuple[object, ...]:
    """Return the key that sorts the worst pool first."""
    severities = [finding["severity"] for finding in pool["findings"]]
    troubled = sum(pool["states"].get(state, 0) for state in TROUBLED) / max(1, pool["bindings"])
    return (
        -severities.count(Severity.CRITICAL),
        -severities.count(Severity.WARNING),
        -troubled,
        not pool["paused"],
        pool["pool_key"],
    )


async def _worst(services: Services, pool_key: str, most: int) -> list[dict[str, Any]]:
    """Return the routes of `most` bindings of a pool that are in trouble, those on hold first."""
    found, seen = list[Row](), 0
    if most:
        for rows in services.table.slices(SLICE):
            found += [row for row in rows if row.binding.pool_key == pool_key and _troubled(row)]
            seen += len(rows)
            if len(found) >= most or seen >= LOOKED_THROUGH:
                break
            await asyncio.sleep(0)
    routes = [services.lookup.shown(row) for row in found[:most]]
    routes.sort(key=lambda route: _WORST.index(route.action) if route.action in _WORST else len(_WORST))
    return [encode_route(route) for route in routes]


def _troubled(row: Row) -> bool:
    return row.state.state in TROUBLED or (row.state.blocked and row.state.state is not State.EXPIRED)
