"""Chance that is the same in every run of a seed, whatever is asked in which order."""

from __future__ import annotations

import math
from hashlib import blake2b


def uniform(*names: object) -> float:
    """A number in (0, 1) that depends on the names alone."""
    digest = blake2b("/".join(map(str, names)).encode(), digest_size=8).digest()
    return (int.from_bytes(digest, "big") + 0.5) / 2.0**64


def waiting_time(mean: float, *names: object) -> float:
    """An exponential waiting time in seconds; a mean of 0 means that it never ends."""
    return -mean * math.log(uniform(*names)) if mean else math.inf
