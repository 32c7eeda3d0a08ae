"""The exposure brake: how many bindings of a pool may turn to the real number within a window.

A pool that suddenly turns to Status 3 is more likely a fault of the provider or of ours than a thousand dead numbers.
Beyond the cap, further bindings are held and an operator is alarmed. The brake is asked before the act: exactly the
cap turn, never one more. Its memory is the rows themselves (`exposed_at`), so a restart does not reopen it.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import inf

from precall.core.ages import Tick


@dataclass(slots=True)
class _Pool:
    turned: deque[float] = field(default_factory=deque)
    engaged: bool = False
    engaged_at: float = 0.0
    halted: bool = False


class Brake:
    """Counts, per pool, the bindings that turned to the real number within `window` seconds.

    *Engaged* means that the cap was reached: further bindings are refused, those exposed before stay. It is
    released by an operator (a fresh cap counts from then) or when fewer than half the cap turned in the last
    window. *Halted* means that an operator stopped all exposures of the pool by hand. Times are ticks of a
    monotonic clock, in seconds.
    """

    def __init__(self, share: float, floor: int, window: float) -> None:
        self.share, self.floor, self.window = share, floor, window
        self._pools: dict[str, _Pool] = {}
        self._all_halted = False

    def cap(self, active: int) -> int:
        """How many of a pool of `active` bindings may turn within the window."""
        return max(self.floor, int(self.share * active))

    def admit(self, pool_key: str, active: int, now: Tick) -> bool:
        """Whether one more binding of the pool may turn now; if so it is counted."""
        if self.halted(pool_key):
            return False
        pool = self._pools.setdefault(pool_key, _Pool())
        if self._engaged(pool, active, now):
            return False
        pool.turned.append(now)
        return True

    def engaged(self, pool_key: str, active: int, now: Tick) -> bool:
        """Whether further exposures of this pool are refused now."""
        pool = self._pools.get(pool_key)
        return self.halted(pool_key) or (pool is not None and self._engaged(pool, active, now))

    def engaged_since(self, pool_key: str, active: int, now: Tick) -> float | None:
        """The tick at which the cap of this pool was reached, while it counts; None otherwise, whatever was ordered."""
        pool = self._pools.get(pool_key)
        return pool.engaged_at if pool is not None and self._engaged(pool, active, now) else None

    def used(self, pool_key: str) -> int:
        """How many bindings of this pool have turned within the window, as of the latest look at it."""
        pool = self._pools.get(pool_key)
        return 0 if pool is None else len(pool.turned)

    @property
    def orders(self) -> list[str]:
        """The pools ("": all) whose exposures an operator has stopped."""
        ordered = [pool_key for pool_key, pool in self._pools.items() if pool.halted]
        return ["", *ordered] if self._all_halted else ordered

    def halted(self, pool_key: str) -> bool:
        """Whether an operator has stopped this pool's exposures, those already made included."""
        pool = self._pools.get(pool_key)
        return self._all_halted or (pool is not None and pool.halted)

    @property
    def halted_pools(self) -> set[str]:
        """The pools ("": all) whose exposures an operator has stopped."""
        halted = {pool_key for pool_key, pool in self._pools.items() if pool.halted}
        return halted | {""} if self._all_halted else halted

    def halt(self, pool_key: str = "") -> None:
        """Stop the exposures of a pool, or of all ("")."""
        if pool_key:
            self._pools.setdefault(pool_key, _Pool()).halted = True
        else:
            self._all_halted = True

    def release(self, pool_key: str = "") -> None:
        """Lift what the cap or an operator engaged, for a pool or for all (""); a fresh cap counts from now."""
        for key in [pool_key] if pool_key else list(self._pools):
            self._pools.pop(key, None)
        if not pool_key:
            self._all_halted = False

    def recall(self, pool_key: str, turned_at: float) -> None:
        """Count an exposure from before a restart. Call this in order of time, before the first `admit`."""
        self._pools.setdefault(pool_key, _Pool()).turned.append(turned_at)

    def retune(
        self, share: float, floor: int, window: float, turns: Sequence[tuple[str, float]] = ()
    ) -> None:
        """Set another cap or window from now on. An engaged pool stays engaged until it is released, or until a
        larger cap has room. A longer window includes exposures that are no longer counted here: `turns` (pool,
        tick) are those within it, in order of time."""
        if share > self.share or floor > self.floor:
            for pool in self._pools.values():
                pool.engaged = False
        self.share, self.floor, self.window = share, floor, window
        counted_since = {pool_key: pool.turned[0] for pool_key, pool in self._pools.items() if pool.turned}
        for pool_key, at in reversed(turns):
            if at < counted_since.get(pool_key, inf):
                self._pools.setdefault(pool_key, _Pool()).turned.appendleft(at)

    def _engaged(self, pool: _Pool, active: int, now: float) -> bool:
        while pool.turned and now - pool.turned[0] >= self.window:
            pool.turned.popleft()
        cap = self.cap(active)
        if len(pool.turned) >= cap:
            if not pool.engaged:
                pool.engaged, pool.engaged_at = True, pool.turned[-1] if pool.turned else now
        elif len(pool.turned) * 2 < cap:
            pool.engaged = False
        return pool.engaged
