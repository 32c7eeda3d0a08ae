"""The predicted and the measured share of dials whose route was wrong, per pool.

The planner predicts it at each read that is dialled. It is measured by how calls ended: the share that failed for a
reason that can be the number's fault. Both are averages over about the latest thousand.
"""

WINDOW = 1000
"""Number of the latest values that an average reflects."""
ALL = ""
"""The key for all pools together; no pool has this name."""


class Calibration:
    """The two shares, per pool and overall. Pools are named as in the metrics, which bounds their number.

    `calls` counts the ended calls since the start, and `failed` those of them whose route was wrong.
    """

    def __init__(self) -> None:
        self._predicted: dict[str, _Mean] = {ALL: _Mean()}
        self._measured: dict[str, _Mean] = {ALL: _Mean()}
        self.calls = self.failed = 0

    def dialled(self, pool: str, wrong: float) -> None:
        """Record a read before a dial, and the predicted P(its route is wrong)."""
        self._predicted[ALL].add(wrong)
        self._predicted.setdefault(pool, _Mean()).add(wrong)

    def ended(self, pool: str, *, wrong: bool) -> None:
        """Record how a call ended."""
        self.calls += 1
        self.failed += wrong
        self._measured[ALL].add(wrong)
        self._measured.setdefault(pool, _Mean()).add(wrong)

    @property
    def predicted(self) -> dict[str, float]:
        """The predicted share by pool."""
        return {pool: mean.value for pool, mean in self._predicted.items()}

    @property
    def measured(self) -> dict[str, float]:
        """The measured share by pool."""
        return {pool: mean.value for pool, mean in self._measured.items()}


class _Mean:
    """The mean of all values so far, turning into an exponential average after `WINDOW` of them."""

    __slots__ = ("count", "value")

    def __init__(self) -> None:
        self.count, self.value = 0, 0.0

    def add(self, value: float) -> None:
        self.count = min(self.count + 1, WINDOW)
        self.value += (value - self.value) / self.count
