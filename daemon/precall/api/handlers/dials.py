"""Handler of the dial log, which `precall replay` reads."""

import orjson
from aiohttp import web

from precall.api.access.authenticator import Client
from precall.api.problems import HEADERS
from precall.engine.services import Services

LINES = "application/x-ndjson"
_PAGE = 2000


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
