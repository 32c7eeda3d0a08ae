"""The page Bindings: a list with filters, and a search that never repeats what it was asked for."""

from collections.abc import Sequence
from typing import Any

from aiohttp import web

from precall.api.handlers import persons
from precall.api.handlers.routes import listed
from precall.api.schemas.routes import RoutesQuery, encode_route
from precall.console.filters import wanted
from precall.console.forms import read_form
from precall.console.render import redirect, render
from precall.console.visit import Visit
from precall.core import rules
from precall.core.model import Action, Route, State
from precall.core.numbers import clean, fault

PAGE = 50
"""Bindings on one page."""
FOUND = 200
"""Bindings that a search shows."""


async def show(visit: Visit) -> web.StreamResponse:
    """Show a page of bindings that the filters want, in order of id."""
    query = wanted(visit, RoutesQuery, limit=PAGE)
    routes, cursor = await listed(visit.services, query)
    chosen = query.model_dump(include={"action", "state", "pool_key", "stale"}, exclude_none=True)
    return render(
        visit,
        "bindings.html",
        routes=[_listed(visit, route) for route in routes],
        cursor=cursor,
        chosen={
            name: str(value).lower() if name == "stale" else str(value) for name, value in chosen.items()
        },
        began=not query.cursor,
        empty=not len(visit.services.table),
        actions=tuple(Action),
        states=tuple(State),
    )


async def search(visit: Visit) -> web.StreamResponse:
    """Find bindings by SubsId, by X or, for `admin`, by the number of a party.

    The text comes in a form: URLs end up in logs and histories. It is not shown again.
    """
    fields = await read_form(visit.request, visit.csrf)
    text, table = fields.get("text", "").strip(), visit.services.table
    if rules.is_subs_id(text) and table.get(text) is not None:
        return redirect(f"/console/bindings/{text}")
    if fault(text) is not None:
        told = "bindings.found.nothing" if rules.is_subs_id(text) else "bindings.found.unreadable"
        return _found(visit, [], told, status=404)
    subs_ids = sorted(row.binding.subs_id for row in table.by_x(clean(text)))
    if visit.client.admin:
        parties = await persons.parties(visit.request, visit.services, visit.client, clean(text), FOUND + 1)
        subs_ids = sorted({*subs_ids, *parties})
    if not subs_ids:
        told = "bindings.found.nothing" if visit.client.admin else "bindings.found.admin"
        return _found(visit, [], told, status=404)
    return _found(visit, subs_ids, "bindings.found.most" if len(subs_ids) > FOUND else "bindings.found")


def _found(visit: Visit, subs_ids: Sequence[str], told: str, status: int = 200) -> web.Response:
    rows = [visit.services.table.get(subs_id) for subs_id in subs_ids[:FOUND]]
    routes = [_listed(visit, visit.services.lookup.shown(row)) for row in rows if row]
    return render(visit, "found.html", status=status, routes=routes, told=visit.t(told, count=len(routes)))


def _listed(visit: Visit, route: Route) -> dict[str, Any]:
    """Return a route with its pool."""
    row = visit.services.table.get(route.subs_id)
    return {"pool_key": row.binding.pool_key if row else "", **encode_route(route)}
