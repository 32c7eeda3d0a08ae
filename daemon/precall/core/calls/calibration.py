"""Predicted against measured: the share of dials whose route was wrong, per pool.

Predicted by the planner at the moment of each read that is dialled; measured by how the calls ended: those that failed
by what can be the number's fault, of all that ended. Both are averages over some thousand of the latest.
"""

REMEMBERED = 1000
ALL = ""
"""Stands for all pools together; no pool is called so."""


class Calibration:
    """The two shares, per pool and for all. A pool is named as in the metrics, so that there are not many."""

    def __init__(self) -> None:
        self._predicted: dict[str, _Mean] = {ALL: _Mean()}
        self._measured: dict[str, _Mean] = {ALL: _Mean()}

    def dialled(self, pool: str, wrong: float) -> None:
        """A route was read to be dialled that is wrong with this probability."""
        self._predicted[ALL].take(wrong)
        self._predicted.setdefault(pool, _Mean()).take(wrong)

    def ended(self, pool: str, *, wrong: bool) -> None:
        """A call ended; its route was wrong, or was not."""
        self._measured[ALL].take(wrong)
        self._measured.setdefault(pool, _Mean()).take(wrong)

    @property
    def predicted(self) -> dict[str, float]:
        """By pool."""
        return {pool: mean.value for pool, mean in self._predicted.items()}

    @property
    def measured(self) -> dict[str, float]:
        """By pool."""
        return {pool: mean.value for pool, mean in self._measured.items()}


class _Mean:
    """Of all so far while they are few, then of the latest, older ones fading."""

    __slots__ = ("count", "value")

    def __init__(self) -> None:
        self.count, self.value = 0, 0.0

    def take(self, value: float) -> None:
        self.count = min(self.count + 1, REMEMBERED)
        self.value += (value - self.value) / self.count
