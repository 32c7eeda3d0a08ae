"""Who asks, and whether they may: bearer tokens with scopes, or this machine alone. Which endpoint needs which scope
stands in `endpoints`."""

import hashlib
import hmac
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from urllib.parse import urlsplit

from aiohttp import hdrs, web

from precall.api.problems import Code
from precall.config import SCOPES, ApiConfig, Scope, Token, is_loopback
from precall.core.errors import Refusal

_FETCH_SITE = "Sec-Fetch-Site"


@dataclass(frozen=True, slots=True)
class Reader:
    """Who asks: the name of a token, and what it may do."""

    name: str
    scopes: frozenset[str]

    @property
    def real(self) -> bool:
        """Whether real numbers may be shown to it."""
        return "routes:real" in self.scopes


ANYBODY = Reader("", frozenset())
LOCAL = Reader("local", frozenset(SCOPES))


class Gate:
    """Lets a request in, or refuses it.

    With tokens: each request names one, and no scope implies another. Without: everything is allowed to programs
    on this machine, but not to web pages open in a browser on it, which betray themselves by the name they reached
    us under (Host) or come from (Origin).
    """

    def __init__(self, config: ApiConfig) -> None:
        self._tokens: Sequence[tuple[bytes, Reader]] = [_known(token) for token in config.tokens]
        self._guarded_elsewhere = config.insecure

    def admit(self, request: web.Request, scope: Scope | None) -> Reader:
        """Whoever asks. `scope` is what the endpoint needs; None: nothing. Raises Refusal, 401 or 403."""
        if not self._tokens:
            self._not_from_a_page(request)
            return LOCAL
        if scope is None:
            return ANYBODY
        reader = self._named(request)
        if scope not in reader.scopes:
            raise Refusal(403, Code.FORBIDDEN, f"this token lacks the scope {scope}")
        return reader

    def _named(self, request: web.Request) -> Reader:
        kind, _, secret = request.headers.get(hdrs.AUTHORIZATION, "").partition(" ")
        if kind.lower() != "bearer" or not secret:
            raise Refusal(401, Code.UNAUTHORIZED, "this needs a header `Authorization: Bearer TOKEN`")
        digest = hashlib.sha256(secret.strip().encode("utf-8", "surrogateescape")).digest()
        found = None
        for known, reader in self._tokens:  # all of them, so that the time taken says nothing
            if hmac.compare_digest(known, digest):
                found = reader
        if found is None:
            raise Refusal(401, Code.UNAUTHORIZED, "this token is not known here")
        return found

    def _not_from_a_page(self, request: web.Request) -> None:
        headers = request.headers
        host = headers.get(hdrs.HOST, "")
        origin = headers.get(hdrs.ORIGIN)
        if self._guarded_elsewhere:
            foreign = origin is not None and urlsplit(origin).netloc != host
        else:
            foreign = not _is_here(f"//{host}") or (origin is not None and not _is_here(origin))
        if foreign or headers.get(_FETCH_SITE) == "cross-site":
            raise Refusal(
                403,
                Code.FOREIGN_REQUEST,
                "without api.tokens only programs on this machine are answered, under a loopback name or address",
            )


def _known(token: Token) -> tuple[bytes, Reader]:
    return bytes.fromhex(token.sha256), Reader(token.name, frozenset(token.scopes))


@lru_cache(maxsize=64)
def _is_here(url: str) -> bool:
    """Whether a URL leads to this machine. Remembered: every read asks it of the same few."""
    try:
        return is_loopback(urlsplit(url).hostname or "")
    except ValueError:
        return False
