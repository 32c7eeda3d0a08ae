"""Handlers of routes: what to dial now. Reads are answered from memory."""

import asyncio
from collections.abc import Callable
from functools import partial

from aiohttp import hdrs, web
from aiohttp.helpers import ETAG_ANY

from precall.api.access.authenticator import Client
from precall.api.problems import Code, problem
from precall.api.replies import not_modified, reply, route_response
from precall.api.requests import read_body, read_query
from precall.api.schemas.routes import LookupBody, NumberQuery, RouteQuery, RoutesQuery, encode_route
from precall.core.callers import acceptable, read_caller
from precall.core.errors import Refusal
from precall.core.model import Action, Route, Row
from precall.core.numbers import UNKNOWN, may_be_same, same
from precall.engine.services import Services

CALLER = "X-Precall-Caller"

_PLAIN = RouteQuery()
_SLICE = 250
_SCAN = 2_000
_TURNS = 10
_MANY = 1_000


async def route(request: web.Request, services: Services, client: Client) -> web.StreamResponse:
    """Return what to dial for a binding now: an action, a number and why.

    The answer comes from memory. With `max_age` a route that is older, in seconds, is checked first; `timeout` is how
    many seconds to wait for that check. If the check does not finish in time, the last known route is returned. A real
    number is returned only to a token with scope `routes:real`, for the caller that it belongs to, and is audited
    first. With `dial=false` the read does not count as a dial. If the freshness promise is `dial`, a read for a dial
    without `max_age` uses `freshness.max_age`.
    """
    query = read_query(request, RouteQuery) if request.query_string else _PLAIN
    return await _answer(request, services, client, request.match_info["subs_id"], query)


async def by_number(request: web.Request, services: Services, client: Client) -> web.StreamResponse:
    """Return the route of the binding that has this number X.

    Where several bindings share X, `caller` tells them apart: it is one of their parties. 409 lists the ids when more
    than one binding still fits. The other parameters are those of a read by id.
    """
    query = read_query(request, NumberQuery)
    caller = _caller(request, query.caller)
    known = services.table.by_x(query.x)
    # Prefer bindings that the caller certainly belongs to over those that it may belong to.
    rows = [row for row in known if _concerns(row, caller, same)] or [
        row for row in known if _concerns(row, caller, may_be_same)
    ]
    rows = [row for row in rows if not _ended(services.lookup.shown(row))] or rows
    if not rows:
        raise Refusal(404, Code.UNKNOWN_BINDING, "there is no binding with this X and this party")
    ids = sorted(row.binding.subs_id for row in rows)
    if len(ids) > 1:
        detail = "several bindings have this X and this party; ask for one of them by its id"
        return problem(409, Code.AMBIGUOUS_NUMBER, detail, subs_ids=ids[:_MANY])
    return await _answer(request, services, client, ids[0], query)


async def lookup(request: web.Request, services: Services, client: Client) -> web.StreamResponse:
    """Return the routes of up to 1000 bindings in the order asked, and the ids that are not known."""
    body = await read_body(request, LookupBody)
    caller = _caller(request, body.caller or None)
    routes, unknown = [], []
    for place, subs_id in enumerate(body.subs_ids):
        if place and place % _SLICE == 0:
            await asyncio.sleep(0)
        row = services.table.get(subs_id)
        if row is None:
            unknown.append(subs_id)
            continue
        found = await services.lookup.of(row, caller, reader=client.name, real=client.real)
        _count(services, found, "json")
        routes.append(encode_route(found))
    return reply({"routes": routes, "unknown": unknown})


async def page(request: web.Request, services: Services, _client: Client) -> web.StreamResponse:
    """Return the routing table page by page, as it is without a caller: real numbers are withheld.

    A page may hold fewer routes than `limit` although there are more: an empty `cursor` marks the end.
    """
    found, cursor = await listed(services, read_query(request, RoutesQuery))
    return reply({"routes": [encode_route(one) for one in found], "cursor": cursor})


async def listed(services: Services, query: RoutesQuery) -> tuple[list[Route], str]:
    """Return the routes that a query wants, without a caller, and the cursor of the next page, "" at the end."""
    found: list[Route] = []
    cursor = query.after
    # In turns, since all clients share one loop. The page may be short.
    for _ in range(_TURNS):
        keep = partial(_keep, found, services, query)
        cursor = services.table.page(cursor, query.limit - len(found), keep, _SCAN).cursor
        if not cursor or len(found) == query.limit:
            break
        await asyncio.sleep(0)
    return found, cursor


def _keep(found: list[Route], services: Services, query: RoutesQuery, row: Row) -> bool:
    """Whether the query wants a row. If so, add its route to `found`."""
    if query.pool_key is not None and row.binding.pool_key != query.pool_key:
        return False
    shown = services.lookup.shown(row)
    if query.action not in (None, shown.action) or query.state not in (None, shown.state):
        return False
    if query.stale not in (None, shown.stale):
        return False
    found.append(shown)
    return True


async def _answer(
    request: web.Request, services: Services, client: Client, subs_id: str, query: RouteQuery
) -> web.StreamResponse:
    # A client that already has this route does not dial it again. The dial counts only if the route has changed.
    conditional = hdrs.IF_NONE_MATCH in request.headers
    dial = query.dial and request.method == hdrs.METH_GET
    found = await services.lookup.route(
        subs_id,
        _caller(request, query.caller),
        reader=client.name,
        real=client.real,
        max_age=query.max_age,
        timeout=query.timeout,
        dial=dial,
        counted=not conditional,
    )
    if found is None:
        raise Refusal(404, Code.UNKNOWN_BINDING, "there is no binding with this id")
    response = route_response(found, query.format)
    _count(services, found, query.format)
    if conditional:
        if _matches(request, response):
            return not_modified(response)
        if dial and (row := services.table.get(subs_id)):
            services.checker.plan.record_dial(subs_id, row.binding.pool_key, verified=False)
    if dial:
        services.promise.dialled(stale=found.stale)
        if found.age is not None:
            services.metrics.dial_age.observe(found.age)
    return response


def _matches(request: web.Request, response: web.Response) -> bool:
    known = response.headers[hdrs.ETAG].strip('"')
    return any(tag.value in (known, ETAG_ANY) for tag in request.if_none_match or ())


def _ended(shown: Route) -> bool:
    """Whether the binding has ended, even if an observed pool still has its X dialled."""
    return Action.EXPIRED in (shown.action, shown.would and shown.would.action)


def _count(services: Services, found: Route, form: str) -> None:
    services.metrics.reads.labels(form, _yes_no(found.stale)).inc()


def _yes_no(value: bool) -> str:
    return "true" if value else "false"


def _caller(request: web.Request, given: str | None) -> str:
    """Return the caller of the parameter or, without one, of the header; "" for none.

    Proxies do not log the header. A value that is not a number is an unknown caller, even an empty parameter. An empty
    header counts as absent, since proxies send one.
    """
    header = request.headers.get(CALLER, "")
    if not acceptable(header):
        detail = "should have at most 256 characters, and no control characters"
        raise Refusal(400, Code.INVALID_CALLER, detail, "caller")
    if given is None:
        return read_caller(header) if header.strip() else ""
    return read_caller(given)


def _concerns(row: Row, caller: str, alike: Callable[[str, str], bool]) -> bool:
    """Whether `caller` may dial this X: a party of the binding, or anyone if it has no B.

    An unknown caller may be a party, and X is safe to dial for everyone.
    """
    binding = row.binding
    if caller in ("", UNKNOWN) or not binding.number_b:
        return True
    return alike(caller, binding.number_a) or alike(caller, binding.number_b)
