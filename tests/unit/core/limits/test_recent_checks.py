"""Checks fail now: as soon as ten in a row do, or half within seconds; and no longer than that."""

from precall.core.ages import Tick
from precall.core.limits.recent_checks import CheckTally, RecentChecks


def feed(recent: RecentChecks, outcomes: str, start: float = 0.0, every: float = 0.1) -> Tick:
    """Record checks: "x" failed, "." did not. Return the tick of the latest."""
    now = start
    for place, outcome in enumerate(outcomes):
        now = start + place * every
        recent.record(Tick(now), failed=outcome == "x")
    return Tick(now)


def test_nothing_is_known_before_ten_checks() -> None:
    recent = RecentChecks()
    assert recent.failing(Tick(0.0)) is None
    assert recent.failing(feed(recent, "x" * 9)) is None
    assert recent.failing(feed(recent, "x", start=1.0)) == CheckTally(10, 10)


def test_half_of_ten_within_seconds_is_failing() -> None:
    recent = RecentChecks()
    assert recent.failing(feed(recent, ".x" * 5)) == CheckTally(5, 10)
    assert recent.failing(feed(recent, ".", start=1.0)) is None


def test_slow_checks_are_judged_by_the_latest_ten() -> None:
    recent = RecentChecks()
    now = feed(recent, "x" * 10, every=5.0)
    assert recent.failing(now) == CheckTally(10, 10)
    assert recent.failing(feed(recent, ".", start=now + 5.0)) is None


def test_failures_are_forgotten_within_seconds_once_checks_are_answered() -> None:
    recent = RecentChecks()
    feed(recent, "x" * 500, every=0.01)
    assert recent.failing(feed(recent, "." * 60, start=5.0)) is None


def test_without_checks_nothing_is_known_after_a_minute() -> None:
    recent = RecentChecks()
    now = feed(recent, "x" * 10)
    assert recent.failing(Tick(now + 59.0)) == CheckTally(10, 10)
    assert recent.failing(Tick(now + 60.0)) is None
