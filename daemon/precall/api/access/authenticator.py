"""Who asks, and whether they may: bearer tokens with scopes, or this machine alone. Which endpoint needs which scope
stands in `endpoints`."""

import hashlib
import hmac
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from urllib.parse import urlsplit

from aiohttp import HttpVersion11, hdrs, web

from precall.api.access.rate_limits import RateLimits
from precall.api.access.token_throttle import TokenThrottle
from precall.api.problems import Code, TooMany
from precall.config.addresses import is_loopback
from precall.config.schema import SCOPES, ApiConfig, Scope, Token
from precall.core.errors import Refusal
from precall.telemetry.metrics import Metrics

_FETCH_SITE = "Sec-Fetch-Site"


@dataclass(frozen=True, slots=True)
class Client:
    """Who asks: the name of a token, what it may do, and how much of it (None: anything)."""

    name: str
    scopes: frozenset[str]
    allowance: RateLimits | None = None

    @property
    def real(self) -> bool:
        """Whether real numbers may be shown to it."""
        return "routes:real" in self.scopes


ANYBODY = Client("", frozenset())
LOCAL = Client("local", frozenset(SCOPES))


class Authenticator:
    """Lets a request in, or refuses it.

    With tokens: each request names one, and no scope implies another. Without: everything is allowed to programs
    on this machine, but not to web pages open in a browser on it, which betray themselves by the name they reached
    us under (Host) or come from (Origin). `clock` is in seconds and never decreases.
    """

    def __init__(self, config: ApiConfig, metrics: Metrics, clock: Callable[[], float]) -> None:
        self.guessing = TokenThrottle(clock)
        self._metrics, self._clock = metrics, clock
        self.retune(config)

    def retune(self, config: ApiConfig) -> None:
        """Know these tokens from now on, and no others; each begins with its whole allowance."""
        self._config = config
        self._tokens: Sequence[tuple[bytes, Client]] = [self._known(token) for token in config.tokens]
        self._local = replace(LOCAL, allowance=self._allowance(0.0))

    def admit(self, request: web.Request, scope: Scope | None) -> Client:
        """Whoever asks. `scope` is what the endpoint needs; None: nothing. Raises Refusal: 401, 403 or 429."""
        if not self._tokens:
            self._not_from_a_page(request)
            return self._local
        if scope is None:
            return ANYBODY
        reader = self.named(request.headers.get(hdrs.AUTHORIZATION, ""), request.remote or "")
        if reader.allowance is not None:
            self._spend(reader.allowance)
        if scope not in reader.scopes:
            self._count("scope")
            raise Refusal(403, Code.FORBIDDEN, f"this token lacks the scope {scope}")
        return reader

    def enter(self, allowance: RateLimits, *, waits: bool) -> None:
        """A request is under way until it leaves its allowance. Raises TooMany (429)."""
        try:
            allowance.enter(waits=waits)
        except TooMany:
            self._count("at_once")
            raise

    def named(self, authorization: str, peer: str) -> Client:
        """Whose token a header names; `peer` is the address it came from. Raises Refusal: 401 or 429."""
        kind, _, secret = authorization.partition(" ")
        if kind.lower() != "bearer" or not secret:
            self._count("no_token")
            raise Refusal(401, Code.UNAUTHORIZED, "this needs a header `Authorization: Bearer TOKEN`")
        digest = hashlib.sha256(secret.strip().encode("utf-8", "surrogateescape")).digest()
        found = None
        for known, reader in self._tokens:  # all of them, so that the time taken says nothing
            if hmac.compare_digest(known, digest):
                found = reader
        if found is None:
            self._count("wrong_token")
            self.guessing.wrong(peer)
            raise Refusal(401, Code.UNAUTHORIZED, "this token is not known here")
        return found

    def _not_from_a_page(self, request: web.Request) -> None:
        headers = request.headers
        host = headers.get(hdrs.HOST, "")
        origin = headers.get(hdrs.ORIGIN)
        if self._config.insecure:
            foreign = origin is not None and urlsplit(origin).netloc != host
        else:
            # HTTP/1.0 has no Host, and load balancers probe so. No browser leaves it away.
            nameless = hdrs.HOST not in headers and request.version < HttpVersion11
            named_here = nameless or _is_here(f"//{host}")
            foreign = not named_here or (origin is not None and not _is_here(origin))
        if foreign or headers.get(_FETCH_SITE) == "cross-site":
            self._count("foreign")
            raise Refusal(
                403,
                Code.FOREIGN_REQUEST,
                "without api.tokens only programs on this machine are answered, under a loopback name or address",
            )

    def _spend(self, allowance: RateLimits) -> None:
        try:
            allowance.spend()
        except TooMany:
            self._count("rate")
            raise

    def _known(self, token: Token) -> tuple[bytes, Client]:
        rate = self._config.rate if token.rate is None else token.rate
        reader = Client(token.name, frozenset(token.scopes), self._allowance(rate))
        return bytes.fromhex(token.sha256), reader

    def _allowance(self, rate: float) -> RateLimits:
        return RateLimits(rate, self._config.max_in_flight, self._config.max_streams, self._clock)

    def _count(self, reason: str) -> None:
        self._metrics.requests_refused.labels(reason).inc()


@lru_cache(maxsize=64)
def _is_here(url: str) -> bool:
    """Whether a URL leads to this machine. Remembered: every read asks it of the same few."""
    try:
        return is_loopback(urlsplit(url).hostname or "")
    except ValueError:
        return False
