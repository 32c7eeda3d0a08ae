"""Wrong tokens: slowed down per peer, counted, and told in one log line a minute however many there are.

A right token is always looked at first, so that nobody is locked out by a neighbour who guesses.
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
"""Wrong tokens of one peer that are answered 401: so many at once, `RATE` a second; more are answered 429."""

MOST_PEERS = 1024
EVERY = 60.0
"""Seconds between two lines of the log."""

_V6_SITE = 64


class TokenThrottle:
    """Who sent wrong tokens lately, and how many. Bounded: of too many peers the longest known is forgotten."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._peers: OrderedDict[str, Bucket] = OrderedDict()
        self._counts: Counter[str] = Counter()
        self._others = 0
        self._since = 0.0

    def __len__(self) -> int:
        return len(self._peers)

    def wrong(self, address: str) -> None:
        """A wrong token has come. Raises TooMany (429) when that peer sends too many of them."""
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
        """Tell of what came in the last minute, once it is over, and forget the peers that have been quiet since."""
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
    """An address, or the network of an IPv6 one: each of its hosts has 2**64 addresses to choose from."""
    try:
        known = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return "unknown"
    if isinstance(known, ipaddress.IPv6Address):
        return str(ipaddress.ip_network((known, _V6_SITE), strict=False))
    return str(known)
