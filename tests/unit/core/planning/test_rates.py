"""The detector of trouble in a whole pool: seldom wrong about a quiet pool, and quick about one that fails."""

import random

import pytest

from precall.core.planning.rates import OUTAGE_SHARE, CusumDetector

HOUR = 3600
ROUND = 2000
"""Seconds in which every binding of a pool is checked once, whatever its size."""
QUIET_SHARE = 0.014
"""Share of unexpected answers while all is as usual."""


def alarms(bindings: int, share: float, answers: int, seed: int = 1) -> int:
    """How often the alarm goes off."""
    chance, detector = random.Random(seed), CusumDetector()
    return sum(
        detector.rises(QUIET_SHARE, unexpected=chance.random() < share, bindings=bindings)
        for _ in range(answers)
    )


def delay(bindings: int, seed: int) -> int:
    """Answers from the beginning of an outage to the alarm."""
    chance, detector = random.Random(seed), CusumDetector()
    for answers in range(1, 10_000):
        if detector.rises(QUIET_SHARE, unexpected=chance.random() < OUTAGE_SHARE, bindings=bindings):
            return answers
    raise AssertionError("never noticed")


def test_a_large_pool_gives_hardly_more_false_alarms_in_an_hour_than_a_small_one() -> None:
    """Twenty-five times the bindings are twenty-five times the answers in the same time."""
    found = {
        bindings: alarms(bindings, QUIET_SHARE, 24 * HOUR * bindings // ROUND)
        for bindings in (1000, 5000, 25_000)
    }
    assert found[1000] > 0, "too quiet to compare"
    assert max(found.values()) < 3 * found[1000], found


@pytest.mark.parametrize("bindings", [1, 100, 1000])
def test_in_a_small_pool_two_unexpected_answers_in_a_row_are_an_alarm(bindings: int) -> None:
    detector = CusumDetector()
    assert not detector.rises(QUIET_SHARE, unexpected=True, bindings=bindings)
    assert detector.rises(QUIET_SHARE, unexpected=True, bindings=bindings)


def test_an_outage_of_a_large_pool_is_noticed_after_few_answers() -> None:
    """A pool of 25,000 in rounds of 2000 s gives 12 answers a second."""
    delays = [delay(25_000, seed) for seed in range(200)]
    assert sum(delays) / len(delays) < 20
    assert max(delays) < 100
