"""How values are shown: times, shares, counts, ages."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote


def clock_time(moment: str) -> str:
    """Return a time in RFC 3339 as "2026-01-02 03:04:05 UTC", "" for none."""
    if not moment:
        return ""
    return f"{datetime.fromisoformat(moment).astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def span(seconds: float) -> str:
    """Return a duration in its two largest units: "45 s", "3 min 5 s", "2 h 10 min", "3 d 4 h"."""
    seconds = max(0.0, seconds)
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s" if seconds >= 10 or whole == seconds else f"{seconds:.1f} s"
    for large, large_name, small, small_name in (
        (86_400, "d", 3600, "h"),
        (3600, "h", 60, "min"),
        (60, "min", 1, "s"),
    ):
        if whole >= large:
            rest = whole % large // small
            return f"{whole // large} {large_name}" + (f" {rest} {small_name}" if rest else "")
    raise AssertionError(whole)


def percent(share: float) -> str:
    """Return a share between 0 and 1 as "12.3 %"; what is not nothing is never shown as 0."""
    if 0 < share < 0.001:
        return "< 0.1 %"
    return f"{share:.1%}".replace("%", " %").replace(".0 ", " ")


def count(number: int) -> str:
    """Return a number with separators between groups of three digits."""
    return f"{number:,}"


def segment(text: str) -> str:
    """Return a text as one segment of a path, or as a value of a query."""
    return quote(text, safe="")


FILTERS: Mapping[str, Callable[[Any], str]] = {
    "clock_time": clock_time,
    "span": span,
    "percent": percent,
    "count": count,
    "segment": segment,
}
"""The filters of the templates."""
