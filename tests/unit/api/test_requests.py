"""What may be sent to the API, and what becomes of it."""

from typing import Any

import pytest
from aiohttp.test_utils import make_mocked_request
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from precall.api.problems import FieldError, mistakes
from precall.api.requests import preferred_language
from precall.api.schemas.bindings import BatchBody, BindingBody, ListedBinding, parse_batch
from precall.api.schemas.operations import PoolBody, ReadyQuery
from precall.api.schemas.overrides import OverrideBody
from precall.api.schemas.routes import LookupBody, NumberQuery, RouteQuery, RoutesQuery
from precall.core.model import Action, Binding
from precall.core.status.texts import Language

GOOD: dict[str, Any] = {
    "subs_id": "1000000000000001",
    "pool_key": "FC1",
    "number_x": "17000000001",
    "number_a": "13800000001",
    "number_b": "13900000001",
}


def wrong(model: type[BaseModel], data: Any, *, parameters: bool = False) -> tuple[str, str]:
    """(field, code) of the first mistake."""
    with pytest.raises(ValidationError) as caught:
        model.model_validate(data)
    first = mistakes(caught.value, parameters=parameters)[0]
    return first.field, first.code


def test_a_complete_binding_is_parsed() -> None:
    body = BindingBody.model_validate(
        {
            **GOOD,
            "number_x": "170-0000 0001",
            "extension": "123",
            "expires_at": "2030-01-01T08:00:00.9+08:00",
            "labels": {"z": "2", "a": "1"},
        }
    )
    assert body.binding("1000000000000001") == Binding(
        subs_id="1000000000000001",
        pool_key="FC1",
        number_x="17000000001",
        number_a="13800000001",
        number_b="13900000001",
        extension="123",
        expires_at=1_893_456_000.0,
        labels=(("a", "1"), ("z", "2")),
    )


@pytest.mark.parametrize("absent", ["", None])
def test_a_missing_empty_or_null_expiry_means_none(absent: str | None) -> None:
    assert BindingBody.model_validate({**GOOD, "expires_at": absent}).binding("1").expires_at is None
    assert BindingBody.model_validate(GOOD).binding("1").expires_at is None


@pytest.mark.parametrize(
    ("change", "field", "code"),
    [
        ({"number_a": 13800000001}, "number_a", "invalid_field"),
        ({"number_a": None}, "number_a", "invalid_field"),
        ({"number_a": ""}, "number_a", "invalid_field"),
        ({"number_a": "1380000000x"}, "number_a", "invalid_field"),
        ({"number_a": "***01"}, "number_a", "masked_number"),
        ({"number_b": "1" * 21}, "number_b", "invalid_field"),
        ({"number_b": "١٢٣٤٥"}, "number_b", "invalid_field"),
        ({"subs_id": "12a"}, "subs_id", "invalid_field"),
        ({"subs_id": 12}, "subs_id", "invalid_field"),
        ({"subs_id": "1" * 33}, "subs_id", "invalid_field"),
        ({"subs_id": "1\n"}, "subs_id", "invalid_field"),
        ({"pool_key": "F C"}, "pool_key", "invalid_field"),
        ({"pool_key": "F" * 65}, "pool_key", "invalid_field"),
        ({"pool_key": ""}, "pool_key", "invalid_field"),
        ({"extension": "1,2"}, "extension", "invalid_field"),
        ({"expires_at": "2030-01-01T00:00:00"}, "expires_at", "invalid_field"),
        ({"expires_at": "2030-02-30T00:00:00Z"}, "expires_at", "invalid_field"),
        ({"expires_at": "0001-01-01T00:00:00+23:00"}, "expires_at", "invalid_field"),
        ({"expires_at": "9999-12-31T23:59:59-23:00"}, "expires_at", "invalid_field"),
        ({"expires_at": 1893456000}, "expires_at", "invalid_field"),
        ({"labels": {"": "x"}}, "labels", "invalid_field"),
        ({"labels": {"k": 1}}, "labels.k", "invalid_field"),
        ({"labels": {"k": "a\nb"}}, "labels", "invalid_field"),
        ({"labels": {"k": "v" * 257}}, "labels.k", "invalid_field"),
        ({"labels": {str(i): "v" for i in range(17)}}, "labels", "invalid_field"),
        ({"number_a": "0571-88888888-801"}, "number_a", "invalid_field"),
        ({"number_b": "13900000001x801"}, "number_b", "invalid_field"),
        ({"number_x": "17000000001-4321"}, "number_x", "invalid_field"),
        ({"number_x": "+86 139-0000-0001"}, "number_x", "invalid_field"),
        ({"number_x": "013800000001"}, "number_x", "invalid_field"),
        ({"number_c": "1"}, "number_c", "unknown_field"),
        ({"13800000001": "1"}, "***", "unknown_field"),
    ],
)
def test_an_invalid_binding_names_its_field(change: dict[str, Any], field: str, code: str) -> None:
    result, kind = wrong(ListedBinding, {**GOOD, **change})
    assert (result.removesuffix("."), kind) == (field, code)


@pytest.mark.parametrize("name", ["subs_id", "pool_key", "number_x", "number_a"])
def test_missing_required_fields_are_reported(name: str) -> None:
    assert wrong(ListedBinding, {key: value for key, value in GOOD.items() if key != name}) == (
        name,
        "missing_field",
    )


def test_error_texts_do_not_repeat_a_number() -> None:
    data = {**GOOD, "number_a": "138x0000001", "number_b": "***01", "subs_id": "17900000001x", "138000011": 1}
    with pytest.raises(ValidationError) as caught:
        ListedBinding.model_validate(data)
    said = repr(mistakes(caught.value))
    for secret in ("138x", "0000001", "***01", "1790", "13800"):
        assert secret not in said


def test_every_item_of_a_batch_is_validated_separately() -> None:
    items = [GOOD, {**GOOD, "subs_id": "2", "number_a": "x"}, "nonsense", {**GOOD, "subs_id": "x"}, None]
    answer = parse_batch(BatchBody.model_validate({"bindings": items}).bindings, 15)
    assert [subs_id for subs_id, _ in answer] == ["1000000000000001", "2", "", "", ""]
    places = [one.field for _, one in answer if isinstance(one, FieldError)]
    assert places == ["bindings[16].number_a", "bindings[17]", "bindings[18].subs_id", "bindings[19]"]


def test_lookup_is_limited_to_a_thousand_ids() -> None:
    assert len(LookupBody.model_validate({"subs_ids": ["1"] * 1000}).subs_ids) == 1000
    assert wrong(LookupBody, {"subs_ids": ["1"] * 1001}) == ("subs_ids", "invalid_field")
    assert wrong(LookupBody, {"subs_ids": [1]}) == ("subs_ids[0]", "invalid_field")
    assert LookupBody.model_validate({"subs_ids": [], "caller": "anonymous"}).caller == "anonymous"
    for caller in ("1" * 257, "a\nb"):
        assert wrong(LookupBody, {"subs_ids": [], "caller": caller}) == ("caller", "invalid_caller")


def test_an_override_body_is_parsed() -> None:
    body = OverrideBody.model_validate(
        {"action": "dial_x", "until": "2030-01-01T00:00:00Z", "reason": "test"}
    )
    assert body.order == (Action.DIAL_X, "", 1_893_456_000.0, "test")
    assert OverrideBody.model_validate({"action": "hold"}).order == (Action.HOLD, "", None, "")


@pytest.mark.parametrize("action", ["dial_real", "expired", "HOLD", 1, None])
def test_invalid_overrides_are_refused(action: object) -> None:
    assert wrong(OverrideBody, {"action": action})[0] == "action"


def test_a_pool_order_names_one_pool_or_none() -> None:
    assert PoolBody.model_validate({}).pool_key == ""
    assert PoolBody.model_validate({"pool_key": "FC1"}).pool_key == "FC1"
    assert wrong(PoolBody, {"pool_key": "F C"})[1] == "invalid_field"


@pytest.mark.parametrize(
    ("model", "query", "field", "code"),
    [
        (RouteQuery, {"max_age": "-1"}, "max_age", "invalid_parameter"),
        (RouteQuery, {"max_age": "nan"}, "max_age", "invalid_parameter"),
        (RouteQuery, {"max_age": "x"}, "max_age", "invalid_parameter"),
        (RouteQuery, {"timeout": "0"}, "timeout", "invalid_parameter"),
        (RouteQuery, {"timeout": "10.1"}, "timeout", "invalid_parameter"),
        (RouteQuery, {"dial": "2"}, "dial", "invalid_parameter"),
        (RouteQuery, {"format": "xml"}, "format", "invalid_parameter"),
        (RouteQuery, {"calller": "1"}, "calller", "unknown_parameter"),
        (NumberQuery, {}, "x", "missing_parameter"),
        (NumberQuery, {"x": "abc"}, "x", "invalid_parameter"),
        (RoutesQuery, {"limit": "1001"}, "limit", "invalid_parameter"),
        (RoutesQuery, {"limit": "0"}, "limit", "invalid_parameter"),
        (RoutesQuery, {"action": "dial"}, "action", "invalid_parameter"),
        (RoutesQuery, {"state": "good"}, "state", "invalid_parameter"),
        (RoutesQuery, {"stale": "maybe"}, "stale", "invalid_parameter"),
        (ReadyQuery, {"for": "lunch"}, "for", "invalid_parameter"),
    ],
)
def test_an_invalid_parameter_is_named(
    model: type[BaseModel], query: dict[str, str], field: str, code: str
) -> None:
    assert wrong(model, query, parameters=True) == (field, code)


def test_parameters_are_read_from_text() -> None:
    query = RouteQuery.model_validate({"max_age": "2.5", "timeout": "1", "dial": "0", "format": "text"})
    assert (query.max_age, query.timeout, query.dial, query.format) == (2.5, 1.0, False, "text")
    assert RoutesQuery.model_validate({"stale": "true", "limit": "7"}).stale is True


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)
def test_any_body_is_accepted_or_refused_with_a_reason(data: Any) -> None:
    for subs_id, one in parse_batch([data], 0):
        assert isinstance(one, FieldError)
        assert subs_id == "" or subs_id.isdecimal()


@pytest.mark.parametrize(
    ("header", "language"),
    [
        ("", Language.EN),
        ("zh", Language.ZH),
        ("zh-CN,zh;q=0.9,en;q=0.8", Language.ZH),
        ("en-GB,en;q=0.9,zh;q=0.8", Language.EN),
        ("de, zh;q=0.3, en;q=0.2", Language.ZH),
        ("zh;q=0", Language.EN),
        ("zh;q=nonsense", Language.EN),
        ("fr", Language.EN),
    ],
)
def test_the_language_of_texts_is_the_preferred_one(header: str, language: Language) -> None:
    request = make_mocked_request("GET", "/v1/status", headers={"Accept-Language": header})
    assert preferred_language(request) is language
