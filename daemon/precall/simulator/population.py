"""Generated bindings, computed from an index, so that a million of them cost nothing until they are looked up.

Covers SubsIds, numbers and lifetimes; health and answers are in world.py.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from precall.simulator.chance import uniform, waiting_time
from precall.simulator.scenario import Pool

FIRST_SUBS_ID = 1_000_000_000_000_001
X, TEMPORARY, A, B = "7001", "7002", "138", "139"
"""Prefixes of numbers. X numbers are 700 and twelve digits, as in the pilot of 2025; parties have mobile numbers."""
_WIDTH = {X: 15, TEMPORARY: 15, A: 11, B: 11}
_STRIDE = 61_803_399  # coprime to 10**8, so numbers look random and never repeat
_BACK = pow(_STRIDE, -1, 10**8)


@dataclass(frozen=True, slots=True)
class SimBinding:
    """A binding as its owner knows it. `expires_at` is Unix seconds, None if it never expires."""

    subs_id: str
    pool_key: str
    number_x: str
    number_a: str
    number_b: str
    extension: str
    expires_at: float | None


class Population:
    """Generated bindings by index or SubsId. Lifetimes start at `origin` and run `speed` times as fast."""

    def __init__(self, seed: int, pools: Sequence[Pool], origin: float, speed: float) -> None:
        self._seed = seed
        self._pools = pools
        self._origin = origin
        self._speed = speed
        self._firsts: list[int] = []
        self._total = 0
        for pool in pools:
            self._firsts.append(self._total)
            self._total += pool.bindings
        self._offsets = {prefix: int(uniform(seed, prefix) * 10**8) for prefix in (X, TEMPORARY, A, B)}

    def __len__(self) -> int:
        return self._total

    def __iter__(self) -> Iterator[SimBinding]:
        return (self._binding(index) for index in range(self._total))

    def __contains__(self, subs_id: str) -> bool:
        return self._index(subs_id) is not None

    def find(self, subs_id: str) -> SimBinding | None:
        index = self._index(subs_id)
        return None if index is None else self._binding(index)

    def on_x(self, number: str) -> SimBinding | None:
        """Return the generated binding with this X, or None."""
        digits = number.removeprefix(X)
        if len(number) != _WIDTH[X] or digits == number or not (digits.isascii() and digits.isdecimal()):
            return None
        if int(digits) >= 10**8:
            return None
        index = (int(digits) - self._offsets[X]) * _BACK % 10**8
        return self._binding(index) if index < self._total else None

    def number(self, prefix: str, serial: int) -> str:
        """Return a number with the full length for its `prefix`, different for each `serial`."""
        digits = (serial * _STRIDE + self._offsets[prefix]) % 10**8
        return f"{prefix}{digits:0{_WIDTH[prefix] - len(prefix)}d}"

    def _index(self, subs_id: str) -> int | None:
        if len(subs_id) != 16 or not (subs_id.isascii() and subs_id.isdecimal()):
            return None
        index = int(subs_id) - FIRST_SUBS_ID
        return index if 0 <= index < self._total else None

    def _binding(self, index: int) -> SimBinding:
        pool = self._pools[bisect_right(self._firsts, index) - 1]
        subs_id = str(FIRST_SUBS_ID + index)
        has_b = not pool.without_b or uniform(self._seed, subs_id, "b") >= pool.without_b
        expires_at = None
        if pool.lifetime:
            expires_at = self._origin + waiting_time(pool.lifetime / self._speed, self._seed, subs_id, "life")
        digits = pool.extension_digits
        return SimBinding(
            subs_id,
            pool.pool_key,
            self.number(X, index),
            self.number(A, index),
            self.number(B, index) if has_b else "",
            f"{index % 10**digits:0{digits}d}" if digits else "",
            expires_at,
        )
