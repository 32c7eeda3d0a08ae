"""Make the responses that several handlers give."""

from hashlib import blake2b
from typing import Any, Literal

import orjson
from aiohttp import hdrs, web

from precall.api.problems import HEADERS
from precall.api.schemas.routes import encode_route, route_text
from precall.core.model import Route


def reply(data: Any, status: int = 200) -> web.Response:
    """Return a JSON response."""
    return web.Response(
        status=status, body=orjson.dumps(data), headers=HEADERS, content_type="application/json"
    )


def route_response(route: Route, form: Literal["json", "text"]) -> web.Response:
    """Return a response for one route. Its ETag covers everything but its age and how long it may be kept."""
    if form == "text":
        body = route_text(route).encode()
        tag = blake2b(body, digest_size=9).hexdigest()
        kind = "text/plain; charset=utf-8"
    else:
        data = encode_route(route)
        age, kept = data["age_ms"], data["good_until"]
        data["age_ms"] = data["good_until"] = 0
        tag = blake2b(orjson.dumps(data), digest_size=9).hexdigest()
        data["age_ms"], data["good_until"] = age, kept
        body = orjson.dumps(data)
        kind = "application/json; charset=utf-8"
    return web.Response(body=body, headers={**HEADERS, hdrs.CONTENT_TYPE: kind, hdrs.ETAG: f'"{tag}"'})


def not_modified(response: web.Response) -> web.Response:
    """Return the 304 for a response with this ETag."""
    return web.Response(status=304, headers={**HEADERS, hdrs.ETAG: response.headers[hdrs.ETAG]})
