"""Handlers of overrides: routes that an operator sets."""

from typing import Any

from aiohttp import web

from precall.api.access.authenticator import Client
from precall.api.handlers import order_log
from precall.api.problems import Code
from precall.api.replies import reply
from precall.api.requests import read_body
from precall.api.schemas.overrides import OverrideBody, encode_override
from precall.api.schemas.routes import encode_route
from precall.core.errors import Refusal
from precall.core.model import Override, Row
from precall.engine.services import Services


async def put(request: web.Request, services: Services, client: Client) -> web.StreamResponse:
    """Override the route of a binding until a time, or until the override is removed.

    An override can dial only X or a temporary number of the binding, never a real one.
    """
    body = await read_body(request, OverrideBody)
    row = await give(request, services, client, request.match_info["subs_id"], body)
    if row.override is None:
        raise AssertionError("an override that was stored without one")
    route = encode_route(services.lookup.shown(row))
    return reply({"override": shown(row, row.override, client), "route": route})


async def delete(request: web.Request, services: Services, client: Client) -> web.StreamResponse:
    """Remove the override of a binding, so that its own route is served again."""
    await lift(request, services, client, request.match_info["subs_id"])
    return web.Response(status=204)


async def give(
    request: web.Request, services: Services, client: Client, subs_id: str, wanted: OverrideBody
) -> Row:
    """Override the route of a binding, and log that. Return its row. Raises Refusal as `Registry.override` does."""
    action, number, until, reason = wanted.order
    row = await services.registry.override(subs_id, action, number, until, reason, client.name)
    order_log.given(request, client, f"override {action}", reason, subs_id=subs_id)
    return row


async def lift(request: web.Request, services: Services, client: Client, subs_id: str) -> None:
    """End the override of a binding, and log that. Raises Refusal (404) if there is none."""
    if services.table.get(subs_id) is None:
        raise Refusal(404, Code.UNKNOWN_BINDING, "there is no binding with this id")
    if not await services.registry.lift(subs_id, client.name):
        raise Refusal(404, Code.UNKNOWN_OVERRIDE, "this binding has no override")
    order_log.given(request, client, "override lifted", subs_id=subs_id)


def shown(row: Row, override: Override, client: Client) -> dict[str, Any]:
    """Return an override as JSON. Its author and reason are shown only to clients with scope `admin`."""
    return encode_override(
        row,
        override,
        by=override.created_by if client.admin else "",
        reason=order_log.shown(override.reason) if client.admin else "",
    )
