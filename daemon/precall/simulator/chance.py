"""Random numbers that depend on their names only, not on the order in which they are drawn."""

from __future__ import annotations

import math
from hashlib import blake2b


def uniform(*names: object) -> float:
    """Return a number in (0, 1), uniform over `names` and the same for the same names."""
    digest = blake2b("/".join(map(str, names)).encode(), digest_size=8).digest()
    return (int.from_bytes(digest, "big") + 0.5) / 2.0**64


def waiting_time(mean: float, *names: object) -> float:
    """Return an exponentially distributed time in seconds; infinite if `mean` is 0."""
    return -mean * math.log(uniform(*names)) if mean else math.inf
