"""A row of the customer's query as a binding: what is taken, what is refused, and that a refusal names its place."""

from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from precall.api.schemas.bindings import ListedBinding
from precall.core.errors import ConfigError
from precall.core.model import Binding
from precall.core.sync.columns import BadRow, Columns

GOOD: dict[str, Any] = {
    "subs_id": "1000000768798832",
    "pool_key": "FC1",
    "number_x": "17000000001",
    "number_a": "13800000001",
    "number_b": "13900000001",
    "extension": "12",
    "expires_at": datetime(2030, 1, 1, tzinfo=UTC),
}
Y2030 = 1_893_456_000.0


def read(zone: str = "", **facts: Any) -> Binding | BadRow:
    row = GOOD | facts
    return Columns(list(row), ZoneInfo(zone) if zone else None).read(list(row.values()))


def taken(zone: str = "", **facts: Any) -> Binding:
    result = read(zone, **facts)
    assert isinstance(result, Binding), result.text
    return result


def test_a_valid_row_is_parsed() -> None:
    assert taken() == Binding(
        "1000000768798832", "FC1", "17000000001", "13800000001", "13900000001", "12", Y2030, (), "source"
    )


def test_integers_keep_every_digit_and_padding_is_removed() -> None:
    result = taken(
        subs_id=9_007_199_254_740_993,
        number_x=17000000001,
        number_a=Decimal(13800000001),
        pool_key="FC1   ",
        extension=7,
    )
    assert (result.subs_id, result.number_x, result.number_a, result.pool_key, result.extension) == (
        "9007199254740993",
        "17000000001",
        "13800000001",
        "FC1",
        "7",
    )


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("subs_id", 1e15),
        ("subs_id", Decimal("1.5")),
        ("subs_id", Decimal("NaN")),
        ("subs_id", True),
        ("subs_id", b"1000"),
        ("subs_id", "1.0E15"),
        ("subs_id", -5),
        ("pool_key", None),
        ("pool_key", "a b"),
        ("number_x", None),
        ("number_x", 1.7e10),
        ("number_a", "***01"),
        ("number_a", "12"),
        ("number_b", "none"),
        ("extension", "1a"),
        ("expires_at", "2030-01-01"),
        ("expires_at", "soon"),
        ("expires_at", True),
        ("expires_at", date(2030, 1, 1)),
        ("expires_at", 1_893_456_000_000),
        ("expires_at", float("nan")),
        ("expires_at", "1969-12-31T00:00:00Z"),
        ("labels", "{"),
        ("labels", "[" * 5000),
        ("labels", '["a"]'),
        ("labels", '{"a": 1.5}'),
        ("labels", '{"a": {"b": "c"}}'),
        ("labels", '{"": "x"}'),
        ("labels", "{" + ",".join(f'"k{n}": ""' for n in range(17)) + "}"),
        ("label_city", "x" * 257),
        ("label_city", "a\nb"),
    ],
)
def test_an_error_names_the_column_and_not_the_value(column: str, value: object) -> None:
    result = read(**{column: value})
    assert isinstance(result, BadRow)
    assert result.column == ("labels" if column.startswith("label_") else column)
    assert result.subs_id == (None if column == "subs_id" else GOOD["subs_id"])
    assert str(value) not in result.text or not str(value).strip("[{")


@pytest.mark.parametrize("nothing", [None, "", "  "])
def test_an_id_is_required_and_optional_columns_may_be_empty(nothing: str | None) -> None:
    result = read(subs_id=nothing)
    assert isinstance(result, BadRow)
    assert result.subs_id == ""
    bare = taken(number_b=nothing, extension=nothing, expires_at=nothing, labels=nothing)
    assert (bare.number_b, bare.extension, bare.expires_at, bare.labels) == ("", "", None, ())


@pytest.mark.parametrize(
    ("value", "zone", "seconds"),
    [
        ("2030-01-01T00:00:00Z", "", Y2030),
        ("2030-01-01 08:00:00.999+08:00", "", Y2030),
        (datetime(2030, 1, 1, 8, tzinfo=timezone(timedelta(hours=8))), "", Y2030),
        (datetime(2030, 1, 1, 8), "Asia/Shanghai", Y2030),  # noqa: DTZ001
        ("2030-01-01 08:00:00", "Asia/Shanghai", Y2030),
        ("2030-01-01T00:00:00Z", "Asia/Shanghai", Y2030),
        (1_893_456_000, "", Y2030),
        (1_893_456_000.7, "Asia/Shanghai", Y2030),
    ],
)
def test_times(value: object, zone: str, seconds: float) -> None:
    assert taken(zone, expires_at=value).expires_at == seconds


@pytest.mark.parametrize("value", [datetime(2030, 1, 1), "2030-01-01 00:00:00"])  # noqa: DTZ001
def test_a_time_without_a_zone_is_a_mistake_of_the_configuration(value: object) -> None:
    with pytest.raises(ConfigError, match=r"^source\.timezone: expires_at carries no zone"):
        read(expires_at=value)


def test_labels_from_both_places() -> None:
    result = taken(labels='{"city": "杭州", "tier": 2}', label_order=77, label_none=None)
    assert result.labels == (("city", "杭州"), ("order", "77"), ("tier", "2"))
    assert taken(labels={"a": "b"}).labels == (("a", "b"),)


def test_missing_unknown_and_repeated_columns_are_all_named() -> None:
    with pytest.raises(ConfigError) as caught:
        Columns(["subs_id", "pool", "number_x", "number_X", "expire_at", "id"], None)
    assert caught.value.mistakes == [
        "source.query: returns no column pool_key; write pool AS pool_key",
        "source.query: returns no column number_a",
        "source.query: returns an unknown column expire_at; did you mean expires_at?",
        "source.query: returns an unknown column id; leave it out, or call it label_id",
        "source.query: returns the column number_x twice",
    ]


def test_column_names_are_case_insensitive() -> None:
    row = {name.upper(): value for name, value in GOOD.items()}
    assert Columns(list(row), None).read(list(row.values())) == taken()


TEXTS = st.one_of(
    st.from_regex(r"[0-9]{1,33}", fullmatch=True),
    st.text("0123456789+- *aF", max_size=24),
    st.just("13800000001"),
)


@given(
    subs_id=TEXTS.map(str.strip).filter(bool),
    pool_key=TEXTS.map(str.strip),
    number_x=TEXTS.map(str.strip),
    number_a=TEXTS.map(str.strip),
    number_b=TEXTS.map(str.strip),
    extension=TEXTS.map(str.strip),
    expires_at=st.sampled_from(["", "2030-01-01T00:00:00Z", "2030-01-01T00:00:00.5+08:00"]),
    labels=st.dictionaries(st.text(max_size=3), st.text(max_size=5).map(str.strip), max_size=17),
)
def test_rows_and_api_registrations_have_the_same_rules(**facts: Any) -> None:
    try:
        wanted: Binding | None = ListedBinding.model_validate(facts).binding(facts["subs_id"])
    except ValidationError:
        wanted = None
    result = read(**facts)
    if isinstance(result, BadRow):
        assert wanted is None
    else:
        assert wanted is not None
        assert {**_facts(result), "origin": "api"} == _facts(wanted)


def _facts(one: Binding) -> dict[str, object]:
    return {name: getattr(one, name) for name in Binding.__dataclass_fields__}
