"""The page of one binding: what dispatchers are told and why, what happened, and what an operator can order.

Looking at it is no dial: nothing is counted, and nothing audited, since real numbers are withheld.
"""

from math import ceil
from typing import Any

from aiohttp import hdrs, web
from pydantic import ValidationError

from precall.api.handlers import overrides
from precall.api.handlers.bindings import sentences
from precall.api.problems import Code
from precall.api.schemas.bindings import encode_binding
from precall.api.schemas.overrides import OverrideBody
from precall.api.schemas.routes import encode_route
from precall.console.filters import in_utc
from precall.console.forms import read_form, with_done
from precall.console.render import redirect, render
from precall.console.timeline import timeline
from precall.console.visit import Visit
from precall.core.errors import Refusal, StoreUnavailable
from precall.core.model import Row
from precall.core.numbers import mask
from precall.engine.on_demand import OnDemandOutcome

PAGE = 30
"""Entries of a timeline at once."""
LATEST = 10
"""Replies looked through for the one behind the route."""
PATIENCE = 3.0
"""Seconds that an operator waits for a check."""

_NOW = "binding-now"
"""The part of the page that follows by itself."""
_TARGET = "HX-Target"


async def show(visit: Visit) -> web.StreamResponse:
    """Show the binding."""
    return await _page(visit, _row(visit))


async def return_to(visit: Visit) -> web.StreamResponse:
    """Lead back from where a form was sent, after a login or with another language."""
    return redirect(f"/console/bindings/{visit.request.match_info['subs_id']}")


async def check(visit: Visit) -> web.StreamResponse:
    """Ask the provider about the binding now, as `POST /v1/bindings/{subs_id}/check` does."""
    await read_form(visit.request, visit.csrf)
    row = _row(visit)
    subs_id = row.binding.subs_id
    ended = await visit.services.on_demand.check_now(subs_id, timeout=PATIENCE, forced=True)
    if ended.outcome is OnDemandOutcome.UNKNOWN:
        raise _unknown()
    if ended.outcome is OnDemandOutcome.SPENT:
        wait = max(1, ceil(ended.retry_after))
        answer = await _page(visit, row, wrong=visit.t("binding.spent", seconds=wait), status=429)
        answer.headers[hdrs.RETRY_AFTER] = str(wait)
        return answer
    return _back(subs_id, ended.outcome)


async def override(visit: Visit) -> web.StreamResponse:
    """Override the route of the binding, as `PUT /v1/overrides/{subs_id}` does. A reason is needed."""
    fields = await read_form(visit.request, visit.csrf)
    row = _row(visit)
    names = ("action", "number", "until", "reason")
    given = {name: fields.get(name, "").strip() for name in names}
    given["until"] = in_utc(given["until"])
    if not given["reason"]:
        return await _refused(visit, row, given, "no_reason")
    try:
        wanted = OverrideBody.model_validate(given)
        await overrides.give(visit.request, visit.services, visit.client, row.binding.subs_id, wanted)
    except ValidationError:
        return await _refused(visit, row, given, "invalid")
    except Refusal as error:
        if error.code in (Code.FOREIGN_NUMBER, Code.IN_THE_PAST):
            return await _refused(visit, row, given, error.code)
        raise
    return _back(row.binding.subs_id, "overridden")


async def lift(visit: Visit) -> web.StreamResponse:
    """Remove the override of the binding."""
    await read_form(visit.request, visit.csrf)
    subs_id = _row(visit).binding.subs_id
    await overrides.lift(visit.request, visit.services, visit.client, subs_id)
    return _back(subs_id, "lifted")


async def _page(
    visit: Visit,
    row: Row,
    *,
    wrong: str = "",
    status: int = 200,
    typed: dict[str, str] | None = None,
) -> web.Response:
    """Return the page. `wrong` is why an order was refused, `typed` the form that was."""
    services = visit.services
    try:
        runs, _ = await services.store.history(row.binding.subs_id, limit=LATEST)
    except StoreUnavailable:
        runs = []
    entries, cursor = await _timeline(visit, row)
    row = services.table.get(row.binding.subs_id) or row
    route = services.lookup.shown(row)
    return render(
        visit,
        "binding.html",
        status=status,
        part=_NOW,
        binding=encode_binding(row.binding, real=False),
        route=encode_route(route),
        sentences=sentences(services, row, route, runs, visit.language),
        override=_override(visit, row),
        entries=entries,
        cursor=cursor,
        began="cursor" not in visit.request.query,
        wrong=wrong,
        typed=typed or {},
    )


async def _timeline(visit: Visit, row: Row) -> tuple[list[Any] | None, str]:
    """Return a page of the timeline; None if the database is away, or if it is not asked for or may not be seen."""
    if visit.request.headers.get(_TARGET) == _NOW or not visit.may("routes:read"):
        return None, ""
    cursor = visit.request.query.get("cursor", "")
    try:
        return await timeline(visit.services, visit.client, row.binding, cursor, PAGE)
    except StoreUnavailable:
        return None, ""


def _override(visit: Visit, row: Row) -> dict[str, Any] | None:
    """Return the override, with its number masked: somebody typed it."""
    if row.override is None:
        return None
    shown = overrides.shown(row, row.override, visit.client)
    return {**shown, "number": mask(shown["number"])}


async def _refused(visit: Visit, row: Row, given: dict[str, str], why: str) -> web.Response:
    """Return the page with the form as it was typed, but for the number."""
    typed = given | {"number": "", "until": given["until"].removesuffix("Z")}
    return await _page(visit, row, wrong=visit.t(f"binding.override.{why}"), status=422, typed=typed)


def _back(subs_id: str, told: str) -> web.Response:
    return redirect(with_done(f"/console/bindings/{subs_id}", told))


def _row(visit: Visit) -> Row:
    row = visit.services.table.get(visit.request.match_info["subs_id"])
    if row is None:
        raise _unknown()
    return row


def _unknown() -> Refusal:
    return Refusal(404, Code.UNKNOWN_BINDING, "there is no binding with this id")
