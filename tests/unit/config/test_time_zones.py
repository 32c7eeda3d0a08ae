"""Zones as people write them: a hint has the offset that was written, or there is none."""

import re
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from precall.config.time_zones import mistake, remark

MOMENTS = [datetime(2026, month, 1, tzinfo=UTC) for month in (1, 7)]


def hint(name: str) -> str:
    match = re.search(r"did you mean (.*)\?$", mistake(name))
    return match[1] if match else ""


@given(st.sampled_from(["UTC", "GMT", "utc", "", "Z", "UTC "]), st.integers(-14 * 4, 14 * 4), st.booleans())
def test_a_hint_for_an_offset_never_names_another_offset(prefix: str, quarters: int, colon: bool) -> None:
    hours, rest = divmod(abs(quarters) * 15, 60)
    minutes = f"{':' if colon else ''}{rest:02}" if rest or colon else ""
    name = f"{prefix}{'-' if quarters < 0 else '+'}{hours}{minutes}"
    if not mistake(name) or not (zone := hint(name)):
        return
    for moment in MOMENTS:
        assert moment.astimezone(ZoneInfo(zone)).utcoffset() == timedelta(minutes=15 * quarters), name


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("UTC+8", "Asia/Shanghai"),
        ("GMT+8", "Asia/Shanghai"),
        ("+08:00", "Asia/Shanghai"),
        ("+0800", "Asia/Shanghai"),
        ("UTC-5", "Etc/GMT+5"),
        ("UTC+5:30", "Asia/Kolkata"),
        ("UTC+8:45", ""),
        ("UTC+99", ""),
        ("CST", ""),
        ("China Standard Time", "Asia/Shanghai"),
        ("Asia/Beijing", "Asia/Shanghai"),
        ("asia/shanghai", "Asia/Shanghai"),
        ("Asia/Shangai", "Asia/Shanghai"),
        ("Asia/Hong Kong", "Asia/Hong_Kong"),
        ("Mars/Olympus", ""),
    ],
)
def test_hints_for_mistyped_zones(name: str, meant: str) -> None:
    assert mistake(name)
    assert hint(name) == meant


def test_valid_zones_get_no_hint() -> None:
    for name in ("Asia/Shanghai", "UTC", "PRC", "Etc/GMT+8", "Asia/Urumqi"):
        assert mistake(name) == ""


def test_the_reversed_sign_of_etc_zones_is_pointed_out() -> None:
    assert remark("Etc/GMT+8").startswith("Etc/GMT+8 is 8 hours behind UTC")
    assert remark("Etc/GMT+8").endswith("8 hours ahead of it is Etc/GMT-8")
    assert remark("Etc/GMT-8").startswith("Etc/GMT-8 is 8 hours ahead of UTC")
    assert [remark(name) for name in ("Asia/Shanghai", "Etc/GMT0", "")] == ["", "", ""]
