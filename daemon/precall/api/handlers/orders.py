"""Handler of the list of orders, and how orders are shown to a client."""

import re
from collections.abc import Iterable
from typing import Any

from aiohttp import web

from precall.api.access.authenticator import Client
from precall.api.handlers import order_log
from precall.api.problems import Code
from precall.api.replies import reply
from precall.api.requests import read_query
from precall.api.schemas.orders import OrdersQuery, encode_order
from precall.core.errors import Refusal
from precall.core.orders import ListedOrder
from precall.engine.services import Services
from precall.store import OrderFilter

_CURSOR = re.compile(r"[0-9]{1,18}", re.ASCII)


async def page(request: web.Request, services: Services, client: Client) -> web.StreamResponse:
    """Return overrides, pauses and brakes that were ordered, newest first.

    An order is in force until a later one replaces or ends it, or its time is over. An override also ends when its
    binding is removed or replaced.
    """
    query = read_query(request, OrdersQuery)
    if query.cursor and not _CURSOR.fullmatch(query.cursor):
        raise Refusal(400, Code.INVALID_CURSOR, "is not a cursor of this list", "cursor")
    wanted = OrderFilter(
        kind=query.kind or "", pool_key=query.pool_key, subs_id=query.subs_id, in_force=query.in_force
    )
    before_id = int(query.cursor) if query.cursor else None
    found = await services.orders.page(wanted, limit=query.limit, before_id=before_id)
    cursor = str(found[-1].order.id) if len(found) == query.limit else ""
    return reply({"orders": shown(found, client), "cursor": cursor})


def shown(found: Iterable[ListedOrder], client: Client) -> list[dict[str, Any]]:
    """Return orders as JSON. Authors and reasons are shown only to clients with scope `admin`."""
    return [
        encode_order(
            listed,
            by=listed.order.by if client.admin else "",
            reason=order_log.shown(listed.order.reason) if client.admin else "",
        )
        for listed in found
    ]
