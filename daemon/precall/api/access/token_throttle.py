"""Throttling of wrong tokens: per peer, counted, and logged once a minute however many there are.

A valid token is never throttled, so that guessing locks nobody out behind the same address.
"""

import ipaddress
from collections import Counter, OrderedDict
from collections.abc import Callable

from precall.api.problems import Code, TooMany
from precall.core.limits.quota import Bucket
from precall.telemetry.logging import get_logger

log = get_logger(__name__)

RATE = 1.0
BURST = 100.0
"""How many wrong tokens of one peer are answered 401, at once and per second (`RATE`). More are answered 429."""

MOST_PEERS = 1024
EVERY = 60.0
"""Seconds between two log lines."""

_V6_SITE = 64


class TokenThrottle:
    """Counts wrong tokens by peer. With too many peers, the one known longest is forgotten."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._peers: OrderedDict[str, Bucket] = OrderedDict()
        self._counts: Counter[str] = Counter()
        self._others = 0
        self._since = 0.0

    def __len__(self) -> int:
        return len(self._peers)

    def wrong(self, address: str) -> None:
        """Count a wrong token. Raises TooMany (429) when its peer has sent too many."""
        now, peer = self._clock(), _peer(address)
        self._note(peer, now)
        bucket = self._peers.get(peer)
        if bucket is None:
            bucket = self._peers[peer] = Bucket(RATE, BURST, now)
            if len(self._peers) > MOST_PEERS:
                self._peers.popitem(last=False)
        if wait := bucket.spend(now):
            raise TooMany(Code.RATE_LIMITED, "too many wrong tokens come from this address", wait)

    def report(self, *, ending: bool = False) -> None:
        """Log the wrong tokens of the last minute once it is over, and forget quiet peers."""
        now = self._clock()
        if not self._counts or (now - self._since < EVERY and not ending):
            return
        [(most, count)] = self._counts.most_common(1)
        log.warning(
            "api.wrong_tokens",
            count=self._counts.total() + self._others,
            peers=len(self._counts),
            most=most,
            of_these=count,
            seconds=round(now - self._since, 1),
        )
        self._counts.clear()
        self._others = 0
        for peer in [peer for peer, bucket in self._peers.items() if bucket.full(now)]:
            del self._peers[peer]

    def _note(self, peer: str, now: float) -> None:
        if not self._counts:
            self._since = now
        if peer in self._counts or len(self._counts) < MOST_PEERS:
            self._counts[peer] += 1
        else:
            self._others += 1


def _peer(address: str) -> str:
    """Return an IPv4 address, or the /64 network of an IPv6 one, since a host chooses among 2**64 addresses."""
    try:
        known = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return "unknown"
    if isinstance(known, ipaddress.IPv6Address):
        return str(ipaddress.ip_network((known, _V6_SITE), strict=False))
    return str(known)
