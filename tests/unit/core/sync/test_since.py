"""The `:since` of a query: where it is one, and the literal that takes its place."""

from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from math import inf, nan

import pytest
from hypothesis import given
from hypothesis import strategies as st

from precall.core.sync.since import NewestChange, SinceQuery, everything

BACKENDS = ("postgresql", "mysql", "sqlite", "oracle")
SHANGHAI = timezone(timedelta(hours=8))
LATEST = datetime(2040, 1, 1, tzinfo=UTC).timestamp()


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    "query",
    [
        "SELECT 1 WHERE changed >= :since",
        "SELECT 1 WHERE changed>=:since",
        "SELECT ':since' WHERE changed >= :since -- or :since",
        "SELECT 'it''s :since', \":since\" WHERE (:since) <= changed /* :since\n :since */",
        "SELECT 1 -- it's\nWHERE changed >= :since",
    ],
)
def test_one_placeholder_is_found(backend: str, query: str) -> None:
    found = SinceQuery.of(query, backend)
    assert len(found.parts) == 2
    assert found.text(":since") == query


def test_each_placeholder_is_replaced() -> None:
    found = SinceQuery.of("SELECT 1 WHERE a >= :since OR b >= :since", "sqlite")
    assert found.text("5") == "SELECT 1 WHERE a >= 5 OR b >= 5"


@pytest.mark.parametrize(
    ("backend", "query"),
    [
        ("sqlite", "SELECT ':since'"),
        ("sqlite", 'SELECT ":since"'),
        ("sqlite", "SELECT `:since`"),
        ("sqlite", "SELECT 1 -- :since"),
        ("sqlite", "SELECT 1 /* :since */"),
        ("postgresql", "SELECT x::since, a[1:since]"),
        ("postgresql", r"SELECT E'\' :since'"),
        ("postgresql", "SELECT $$ :since $$, $tag$ $$ :since $tag$"),
        ("mysql", r"SELECT '\' :since'"),
        ("mysql", r'SELECT "\" :since"'),
        ("mysql", "SELECT 1 # :since"),
        ("mysql", "SELECT `a :since`"),
        ("oracle", "SELECT :sincerely, :SINCE, :since_2"),
        ("oracle", "SELECT 1"),
    ],
)
def test_what_is_no_placeholder_stays(backend: str, query: str) -> None:
    found = SinceQuery.of(query, backend)
    assert not found.incremental
    assert found.text("0") == query


def test_a_backslash_ends_no_string_where_it_is_a_character() -> None:
    assert SinceQuery.of(r"SELECT '\' WHERE changed >= :since", "postgresql").incremental
    assert SinceQuery.of("SELECT 1--1 WHERE changed >= :since", "mysql").incremental


@given(st.text(alphabet="':since\"-/*$#`\\ \nxE1", max_size=40), st.sampled_from(BACKENDS))
def test_a_query_is_never_changed_elsewhere(query: str, backend: str) -> None:
    found = SinceQuery.of(query, backend)
    assert found.text(":since") == query


@pytest.mark.parametrize(
    ("value", "literal"),
    [
        (datetime.fromisoformat("2026-01-01 00:04"), "'2025-12-31 23:59:00'"),
        (datetime(2026, 1, 1, 0, 4, 0, 5, tzinfo=SHANGHAI), "'2025-12-31 23:59:00.000005+08:00'"),
        ("2026-01-01T00:04:00Z", "'2025-12-31T23:59:00Z'"),
        ("2026-01-01 00:04:00", "'2025-12-31 23:59:00'"),
        ("2026-01-01 00:04", "'2025-12-31 23:59'"),
        ("2026-01-01 00:04:00.250+08", "'2025-12-31 23:59:00.250+08'"),
        (" 2026-01-01 00:04:00.1234567 ", "'2025-12-31 23:59:00.123456'"),
        (1_767_225_840, "1767225540"),
        (1_767_225_840.5, "1767225540.5"),
        (Decimal("1767225840.25"), "1767225540.25"),
    ],
)
def test_the_literal_has_the_form_of_the_source(value: object, literal: str) -> None:
    assert NewestChange().after(value, LATEST).literal(300.0) == literal


@pytest.mark.parametrize(
    "value",
    [True, "soon", "2026-01-01", "2026-01-01 00:00:00' OR 1=1 --", "2026-13-01 00:00:00", inf, nan, b"x"],
)
def test_what_is_no_time_is_refused_without_being_repeated(value: object) -> None:
    with pytest.raises(ValueError, match="should be a time") as refused:
        NewestChange().after(value, LATEST)
    assert "OR 1=1" not in str(refused.value)


def test_the_newest_wins_null_counts_for_nothing_and_the_far_future_is_a_mistake() -> None:
    newest = NewestChange()
    for value in ("2026-01-02T00:00:00Z", None, "", "2026-01-01T00:00:00Z", "9999-12-31T00:00:00Z"):
        newest = newest.after(value, LATEST)
    assert newest.value == "2026-01-02T00:00:00Z"
    assert newest.after("2026-01-02T00:00:01Z", LATEST).value == "2026-01-02T00:00:01Z"


def test_a_look_back_before_all_time_does_not_fail() -> None:
    assert (
        NewestChange().after(datetime.fromisoformat("0001-01-01 05:00"), LATEST).literal(86_400.0)
        == "'1970-01-01 05:00:00'"
    )


@given(
    st.datetimes(datetime.fromisoformat("1971-01-01"), datetime.fromisoformat("2039-01-01")),
    st.integers(0, 3_000_000),
    st.sampled_from(["", "Z", "+08:00"]),
)
def test_a_written_literal_is_that_much_earlier(moment: datetime, look_back: int, zone: str) -> None:
    text = moment.isoformat(sep=" ", timespec="microseconds") + zone
    literal = NewestChange().after(text, LATEST).literal(look_back)
    written = datetime.fromisoformat(literal.strip("'"))
    assert datetime.fromisoformat(text) - written == timedelta(seconds=look_back)
    assert len(literal) == len(text) + 2


def test_everything_comes_with_a_literal_for_each_type() -> None:
    assert everything("sqlite") == everything("mysql") == ("0",)
    assert everything("postgresql") == ("'1970-01-01 00:00:00'", "0")
