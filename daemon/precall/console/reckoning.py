"""How values are shown: times, shares, counts."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote


def clock_time(moment: str) -> str:
    """Return a time in RFC 3339 as "2026-01-02 03:04:05 UTC", "" for none."""
    if not moment:
        return ""
    return f"{datetime.fromisoformat(moment).astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def percent(share: float) -> str:
    """Return a share between 0 and 1 as "12.3 %"; what is not nothing is never shown as 0."""
    if 0 < share < 0.001:
        return "< 0.1 %"
    return f"{share:.1%}".replace("%", " %").replace(".0 ", " ")


def count(number: int) -> str:
    """Return a number with separators between groups of three digits."""
    return f"{number:,}"


def rate(per_second: float) -> str:
    """Return a rate without its unit, in at most four significant digits: "0.5", "33.33", "1,000"."""
    return f"{per_second:,.0f}" if per_second >= 1000 else f"{per_second:.4g}"


def segment(text: str) -> str:
    """Return a text as one segment of a path, or as a value of a query."""
    return quote(text, safe="")


FILTERS: Mapping[str, Callable[[Any], str]] = {
    "clock_time": clock_time,
    "percent": percent,
    "count": count,
    "rate": rate,
    "segment": segment,
}
"""The filters of the templates."""
