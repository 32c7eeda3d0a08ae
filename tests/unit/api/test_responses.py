"""What leaves the API: promised key by key."""

import json
from datetime import UTC, datetime
from math import inf

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from precall.api.replies import not_modified, route_response
from precall.api.schemas.bindings import BindingAnswer, encode_binding
from precall.api.schemas.fields import moment, second
from precall.api.schemas.routes import RouteAnswer, encode_route, route_text
from precall.core.model import Action, Flag, Reason, Route, State, Would
from tests.support.builders import binding

PROMISED = """{"subs_id":"1000000768798832","action":"dial_x","number":"17000000000","extension":"","state":"normal",
"reason":"status_1","status":1,"checked_at":"2026-01-02T03:04:05.678Z","age_ms":1234,"stale":false,"retry_after":0,
"flags":[],"expires_at":"2026-02-02T00:00:00Z","good_until":"2026-02-01T23:59:55.000Z","version":7,"index":123456}"""

numbers = st.from_regex(r"\A[0-9]{0,20}\Z")
times = st.floats(1, 253_402_300_000)
moments = st.floats(1, 253_402_200_000)
routes = st.builds(
    Route,
    subs_id=st.from_regex(r"\A[0-9]{1,32}\Z"),
    action=st.sampled_from(Action),
    number=numbers,
    extension=numbers,
    state=st.sampled_from(State),
    reason=st.sampled_from(Reason),
    status=st.integers(0, 4),
    checked_at=st.just(0.0) | times,
    age=st.none() | st.floats(0, 1e9),
    stale=st.booleans(),
    retry_after=st.integers(0, 60),
    flags=st.lists(st.sampled_from(Flag), unique=True).map(tuple),
    expires_at=st.none() | times,
    version=st.integers(0, 2**53),
    index=st.integers(0, 2**53),
    decided_at=moments,
    until=st.just(inf) | moments,
    would=st.none() | st.builds(Would, action=st.sampled_from(Action), reason=st.sampled_from(Reason)),
)


def a_route(**changes: object) -> Route:
    facts: dict[str, object] = {
        "subs_id": "1000000768798832",
        "action": Action.DIAL_X,
        "number": "17000000000",
        "extension": "",
        "state": State.NORMAL,
        "reason": Reason.STATUS_1,
        "status": 1,
        "checked_at": 1767323045.678,
        "age": 1.2341,
        "stale": False,
        "retry_after": 0,
        "flags": (),
        "expires_at": 1769990400.0,
        "version": 7,
        "index": 123456,
        "decided_at": 1767323046.912,
        "until": 1769990395.0,
    }
    return Route(**(facts | changes))  # type: ignore[arg-type]


def test_a_route_has_the_documented_keys_in_order() -> None:
    assert orjson.dumps(encode_route(a_route())).decode() == PROMISED.replace("\n", "")


def test_a_route_before_the_first_answer() -> None:
    data = encode_route(a_route(checked_at=0.0, age=None, expires_at=None, status=0))
    assert (data["checked_at"], data["age_ms"], data["expires_at"]) == ("", -1, "")


@given(routes)
def test_every_route_is_valid_small_and_without_null(route: Route) -> None:
    body = orjson.dumps(encode_route(route))
    RouteAnswer.model_validate_json(body)
    told = list(RouteAnswer.model_fields)
    assert list(json.loads(body)) == (told if route.would else told[:-1])
    assert len(body) < 1024
    assert b"null" not in body


@given(st.integers(1, 4_102_444_800_000))
def test_times_are_written_as_the_standard_library_writes_them(milliseconds: int) -> None:
    at = milliseconds / 1000
    written = datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds")
    assert moment(at) == f"{written[:23]}Z"
    assert second(at) == f"{written[:19]}Z"


@given(times)
def test_times_round_trip(at: float) -> None:
    assert abs(datetime.fromisoformat(moment(at)).timestamp() - at) < 0.002
    assert datetime.fromisoformat(second(at)).timestamp() == int(at)


def test_the_text_form_is_one_line() -> None:
    assert route_text(a_route()) == "dial_x,17000000000"
    assert route_text(a_route(extension="12")) == "dial_x,17000000000,12"
    assert route_text(a_route(action=Action.HOLD, number="")) == "hold,"


@pytest.mark.parametrize("form", ["json", "text"])
def test_the_etag_depends_on_content_but_not_on_age(form: str) -> None:
    def tag(**changes: object) -> str:
        return route_response(a_route(**changes), form).headers["ETag"]  # type: ignore[arg-type]

    assert tag() == tag(age=99.0, decided_at=1767323144.0, until=1769990396.0)
    assert tag() != tag(number="17000000009")
    assert not_modified(route_response(a_route(), "json")).status == 304


def test_a_hold_keeps_its_etag_while_it_may_be_kept_longer() -> None:
    held = {"action": Action.HOLD, "reason": Reason.TOO_OLD, "retry_after": 10, "number": ""}
    first, second = (
        route_response(a_route(**held, decided_at=1767323046.912 + later), "json") for later in (0.0, 3.0)
    )
    assert first.headers["ETag"] == second.headers["ETag"]
    assert [json.loads(one.body)["good_until"] for one in (first, second)] == [
        "2026-01-02T03:04:16.912Z",
        "2026-01-02T03:04:19.912Z",
    ]
    assert first.headers["Cache-Control"] == "no-store", "keeping a route is up to readers, not to proxies"


def test_every_member_but_age_changes_the_etag() -> None:
    others = {
        "action": Action.HOLD,
        "state": State.BLOCKED,
        "stale": True,
        "version": 8,
        "checked_at": 1767323046.0,
        "flags": (Flag.SUSPECT,),
    }
    tags = {
        route_response(a_route(**{name: value}), "json").headers["ETag"] for name, value in others.items()
    }
    assert len(tags | {route_response(a_route(), "json").headers["ETag"]}) == len(others) + 1


def test_numbers_of_a_binding_are_masked_without_the_scope() -> None:
    shown = encode_binding(binding(labels=(("city", "Hangzhou"),)), real=False)
    assert (shown["number_x"], shown["number_a"], shown["number_b"]) == ("17000000001", "***01", "***01")
    shown = encode_binding(binding(number_b=""), real=True)
    assert (shown["number_a"], shown["number_b"]) == ("13800000001", "")
    assert list(BindingAnswer.model_validate(shown).model_dump()) == list(shown)
