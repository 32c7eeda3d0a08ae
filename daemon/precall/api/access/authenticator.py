"""Authentication: bearer tokens with scopes or, without tokens, programs on this machine only.

The scope that an operation needs is in `endpoints`.
"""

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
    """The sender of a request: the name of its token, its scopes, and its rate limits (None: unlimited)."""

    name: str
    scopes: frozenset[str]
    allowance: RateLimits | None = None

    @property
    def real(self) -> bool:
        """Whether this client may see real numbers."""
        return "routes:real" in self.scopes

    @property
    def admin(self) -> bool:
        """Whether this client may see who gave an order, and why."""
        return "admin" in self.scopes


ANYBODY = Client("", frozenset())
LOCAL = Client("local", frozenset(SCOPES))


class Authenticator:
    """Admits or refuses requests.

    With tokens, each request names one, and no scope implies another. Without tokens, programs on this machine may do
    everything. Web pages open in a browser on it may not: the headers Host and Origin give them away. `clock` is in
    seconds and never decreases.
    """

    def __init__(self, config: ApiConfig, metrics: Metrics, clock: Callable[[], float]) -> None:
        self.guessing = TokenThrottle(clock)
        self._metrics, self._clock = metrics, clock
        self.retune(config)

    def retune(self, config: ApiConfig) -> None:
        """Use the tokens of this configuration from now on, each with fresh rate limits."""
        self._config = config
        self._tokens: Sequence[tuple[bytes, Client]] = [self._known(token) for token in config.tokens]
        self._local = replace(LOCAL, allowance=self._allowance(0.0))

    def admit(self, request: web.Request, scope: Scope | None) -> Client:
        """Return the client of a request. Raises Refusal: 401, 403 or 429.

        `scope` is the one that the operation needs, None for an operation open to everyone.
        """
        if not self._tokens:
            return self.local(request)
        if scope is None:
            return ANYBODY
        client = self.named(request.headers.get(hdrs.AUTHORIZATION, ""), request.remote or "")
        self.permit(client, scope)
        return client

    @property
    def asks_for_tokens(self) -> bool:
        """Whether tokens are configured. Without them `local` says who may do everything."""
        return bool(self._tokens)

    def local(self, request: web.Request, *, followed: bool = False) -> Client:
        """Return the client of a request where no tokens are configured. Raises Refusal (403).

        With `followed`, a person may also have followed a link of another site: nothing of the page is shown to that
        site.
        """
        self._not_from_a_page(request, followed=followed and _is_navigation(request))
        return self._local

    def permit(self, client: Client, scope: Scope) -> None:
        """Count a request of a client against its rate. Raises Refusal: 403 without the scope, 429 above the rate."""
        if client.allowance is not None:
            self._spend(client.allowance)
        if scope not in client.scopes:
            self._count("scope")
            raise Refusal(403, Code.FORBIDDEN, f"this token lacks the scope {scope}")

    def enter(self, allowance: RateLimits, *, waits: bool) -> None:
        """Count a request as in flight until it leaves. Raises TooMany (429)."""
        try:
            allowance.enter(waits=waits)
        except TooMany:
            self._count("at_once")
            raise

    def named(self, authorization: str, peer: str) -> Client:
        """Return the client whose token is in the header Authorization. Raises Refusal: 401 or 429.

        `peer` is the address that the request came from.
        """
        kind, _, secret = authorization.partition(" ")
        if kind.lower() != "bearer" or not secret:
            self._count("no_token")
            raise Refusal(401, Code.UNAUTHORIZED, "this needs a header `Authorization: Bearer TOKEN`")
        return self.recognized(digest_of(secret), peer)

    def recognized(self, digest: bytes, peer: str) -> Client:
        """Return the client whose token has this digest. Raises Refusal as `named` does, and counts a wrong token."""
        found = self.holder(digest)
        if found is None:
            self._count("wrong_token")
            self.guessing.wrong(peer)
            raise Refusal(401, Code.UNAUTHORIZED, "this token is unknown")
        return found

    def holder(self, digest: bytes) -> Client | None:
        """Return the client whose token has this digest, None if no token in force has it."""
        found = None
        for known, client in self._tokens:  # compares with all tokens, so that the time taken reveals nothing
            if hmac.compare_digest(known, digest):
                found = client
        return found

    def _not_from_a_page(self, request: web.Request, *, followed: bool) -> None:
        headers = request.headers
        host = headers.get(hdrs.HOST, "")
        origin = headers.get(hdrs.ORIGIN)
        if self._config.insecure:
            foreign = origin is not None and urlsplit(origin).netloc != host
        else:
            # Load balancers probe with HTTP/1.0, which has no Host. Browsers always send one.
            nameless = hdrs.HOST not in headers and request.version < HttpVersion11
            named_here = nameless or _is_here(f"//{host}")
            foreign = not named_here or (origin is not None and not _is_here(origin))
        if foreign or (headers.get(_FETCH_SITE) == "cross-site" and not followed):
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
        client = Client(token.name, frozenset(token.scopes), self._allowance(rate))
        return bytes.fromhex(token.sha256), client

    def _allowance(self, rate: float) -> RateLimits:
        return RateLimits(rate, self._config.max_in_flight, self._config.max_streams, self._clock)

    def _count(self, reason: str) -> None:
        self._metrics.requests_refused.labels(reason).inc()


def digest_of(token: str) -> bytes:
    """Return the digest that the configuration has of a token."""
    return hashlib.sha256(token.strip().encode("utf-8", "surrogateescape")).digest()


def _is_navigation(request: web.Request) -> bool:
    """Whether a browser opens a page in a tab: not in a frame, and not for a script."""
    headers = request.headers
    opened = (headers.get("Sec-Fetch-Mode"), headers.get("Sec-Fetch-Dest")) == ("navigate", "document")
    return opened and request.method in (hdrs.METH_GET, hdrs.METH_HEAD)


@lru_cache(maxsize=64)
def _is_here(url: str) -> bool:
    """Whether a URL leads to this machine. Cached, since every read asks it about the same few."""
    try:
        return is_loopback(urlsplit(url).hostname or "")
    except ValueError:
        return False
