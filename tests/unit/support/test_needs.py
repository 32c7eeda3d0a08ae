"""Skipped tests are summarized in few lines, each with the command that installs what is missing."""

from tests.support.needs import NEEDS, last_lines, missing


def test_few_needs_make_a_short_end_of_a_run() -> None:
    assert 1 <= len(NEEDS) <= 5
    assert all(need.install.startswith("apt-get install ") for need in NEEDS.values())


def test_what_is_missing_is_named_with_its_command() -> None:
    reasons = ["needs prometheus", "needs systemd", "needs prometheus", "no wheel for this platform"]
    assert last_lines(reasons) == [
        "skipped: 2 tests: needs prometheus: apt-get install prometheus",
        "skipped: 1 test: needs systemd: apt-get install systemd",
        "skipped: 1 test: no wheel for this platform",
    ]
    assert last_lines([]) == []


def test_nothing_is_missing_without_a_need() -> None:
    assert missing([]) is None
