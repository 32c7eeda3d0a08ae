"""Handler of the audit of real numbers that were handed out."""

import re
from typing import Any

from aiohttp import web

from precall.api.access.authenticator import Client
from precall.api.problems import Code
from precall.api.replies import reply
from precall.api.requests import read_query
from precall.api.schemas.exposures import ExposuresQuery, encode_exposure
from precall.core.errors import Refusal
from precall.engine.services import Services
from precall.store import AuditFilter

_CURSOR = re.compile(r"[0-9]{1,18}", re.ASCII)


async def page(request: web.Request, services: Services, _client: Client) -> web.StreamResponse:
    """Return which client was given which real number, when and why, newest first.

    Entries outlive their bindings. With `number` only exposures of that number are returned, whichever the binding.
    """
    rows, cursor = await audited(services, read_query(request, ExposuresQuery))
    return reply({"exposures": [encode_exposure(row) for row in rows], "cursor": cursor})


async def audited(
    services: Services, query: ExposuresQuery, hashes: tuple[str, ...] = ()
) -> tuple[list[dict[str, Any]], str]:
    """Return the rows of the audit that a query wants, and the cursor of the next page, "" at the end.

    `hashes` are those of a number that is asked for in place of `query.number`.

    Raises Refusal (400) for the cursor of another list.
    """
    if query.cursor and not _CURSOR.fullmatch(query.cursor):
        raise Refusal(400, Code.INVALID_CURSOR, "is not a cursor of this list", "cursor")
    wanted = AuditFilter(
        pool_key=query.pool_key,
        reader=query.reader,
        subs_id=query.subs_id,
        number_hashes=services.audit.hashes(query.number) if query.number else hashes,
        since=query.started,
    )
    rows = await services.store.exposures(
        limit=query.limit, before_id=int(query.cursor) if query.cursor else None, wanted=wanted
    )
    return rows, str(rows[-1]["id"]) if len(rows) == query.limit else ""
