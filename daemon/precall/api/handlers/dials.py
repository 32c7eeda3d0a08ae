"""Handlers of dials: those that caches report, and the log that `precall replay` reads."""

import orjson
from aiohttp import web

from precall.api.access.authenticator import Client
from precall.api.problems import HEADERS
from precall.api.replies import reply
from precall.api.requests import read_body
from precall.api.schemas.dials import DialsBody
from precall.concurrency import breathe
from precall.engine.services import Services

LINES = "application/x-ndjson"
_PAGE = 2000
_SLICE = 10


async def post(request: web.Request, services: Services, _client: Client) -> web.StreamResponse:
    """Tell of dials whose routes were kept by a client or replica, so that checks go where dials are.

    Send the counts at least once a minute. If a call was reported before the read of its route, it is counted once. A
    batch that is sent again counts again: after a lost response, leave it. Entries for unknown or expired bindings are
    ignored, and their ids are returned.
    """
    taken, unknown, plan = 0, [], services.checker.plan
    for count, dialled in enumerate((await read_body(request, DialsBody)).root, 1):
        row = services.table.get(dialled.subs_id)
        if row is None or dialled.subs_id not in plan.planner:
            unknown.append(dialled.subs_id)
        else:
            plan.record_reads(dialled.subs_id, row.binding.pool_key, dialled.count, dialled.moment)
            taken += 1
        await breathe(count, _SLICE)
    return reply({"taken": taken, "unknown": unknown})


async def log(request: web.Request, services: Services, _client: Client) -> web.StreamResponse:
    """Return dials and answers of a sampled share of the bindings, oldest first, one JSON object per line.

    Bindings stand under pseudonyms. The log is input for `precall replay`. A response without its final chunk is
    incomplete.
    """
    after_id = 0
    response = web.StreamResponse(headers=HEADERS)
    response.content_type = LINES
    rows = await services.store.dials(after_id=after_id, limit=_PAGE)
    await response.prepare(request)
    while rows:
        after_id = rows[-1]["id"]
        lines = ({str(name): value for name, value in row.items() if name != "id"} for row in rows)
        await response.write(b"".join(orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE) for line in lines))
        rows = await services.store.dials(after_id=after_id, limit=_PAGE)
    await response.write_eof()
    return response
