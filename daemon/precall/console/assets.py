"""The assets of the console: scripts and styles that are part of the package, each known by the hash of its content."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from aiohttp import hdrs, web

from precall.console import headers

STATIC = Path(__file__).parent / "static"
ROOT = "/console/static/"

_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
_FOR_EVER = "public, max-age=31536000, immutable"


@dataclass(frozen=True, slots=True)
class Asset:
    """A file of the console. `digest` is of its content, so that another content has another URL."""

    name: str
    content: bytes
    digest: str

    @property
    def url(self) -> str:
        """The path that the pages name, which may be cached for ever."""
        return f"{ROOT}{self.name}?v={self.digest}"


@cache
def assets() -> Mapping[str, Asset]:
    """Return all assets by name, such as "vendor/htmx.min.js"."""
    found = {}
    for file in sorted(STATIC.rglob("*")):
        if file.suffix in _TYPES:
            name, content = file.relative_to(STATIC).as_posix(), file.read_bytes()
            found[name] = Asset(name, content, hashlib.sha256(content).hexdigest()[:16])
    return found


def url(name: str) -> str:
    """Return the URL of an asset. Raises KeyError for an unknown one."""
    return assets()[name].url


async def serve(request: web.Request) -> web.Response:
    """Return an asset. It needs no login: the login page has assets, too."""
    asset = assets().get(request.match_info["name"])
    if asset is None:
        raise web.HTTPNotFound
    tag = f'"{asset.digest}"'
    cached = _FOR_EVER if request.query.get("v") == asset.digest else "no-cache"
    given = {**headers.ASSET, hdrs.ETAG: tag, hdrs.CACHE_CONTROL: cached}
    if tag in request.headers.get(hdrs.IF_NONE_MATCH, ""):
        return web.Response(status=304, headers=given)
    kind = _TYPES[Path(asset.name).suffix]
    return web.Response(body=asset.content, headers={**given, hdrs.CONTENT_TYPE: kind})
