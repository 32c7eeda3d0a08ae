"""Arbitrary input: parsers raise only documented errors, do not repeat the input, and do not grow memory."""

import gc
import json
import tracemalloc
from collections.abc import Callable
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, example, given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from precall.api.access.authenticator import Authenticator
from precall.api.access.token_throttle import MOST_PEERS
from precall.api.endpoints import ENDPOINTS
from precall.api.problems import FieldErrors, mistakes
from precall.api.schemas.bindings import parse_batch
from precall.config.schema import ApiConfig
from precall.core.errors import Refusal
from precall.core.model import Answer, NonAnswer
from precall.provider.replies import CallDetail, read_detail, read_status
from precall.telemetry.metrics import Metrics
from tests.support.api_daemon import token
from tests.support.examples import examples

pytestmark = pytest.mark.slow
MANY = examples(40, 5000, *HealthCheck)
NUMBER = "13800000001"

REPLIES = [
    b'{"Code":"OK","RequestId":"E7F9-8191","SecretCallStatusDTO":{"Status":1,"CalledNo":"17000000000","Extension":"1"}}',
    b'{"Code":"OK","RequestId":"A90E","Data":"{\\"state\\":\\"200000\\",\\"duration\\":\\"31\\",\\"caller\\":\\"1\\"}"}',
    b'{"Code":"Throttling.User","Message":"Denied","RequestId":"E7F9-8191","HostId":"dyplsapi.aliyuncs.com"}',
    b"<R><Code>OK</Code><RequestId>E</RequestId><SecretCallStatusDTO><Status>2</Status></SecretCallStatusDTO></R>",
    b"<?xml version='1.0' encoding='UTF-8'?><Error><Code>isp.SYSTEM_ERROR</Code><RequestId>E</RequestId></Error>",
    b'<!DOCTYPE r [<!ENTITY a "b">]><r><Code>&a;</Code></r>',
]

texts = st.text(max_size=30) | st.just(NUMBER)
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=20,
)


@st.composite
def spoilt(draw: st.DrawFn) -> bytes:
    """A reply with bytes taken out, put in and turned round."""
    reply = bytearray(draw(st.sampled_from(REPLIES)))
    for _ in range(draw(st.integers(0, 6))):
        place = draw(st.integers(0, max(0, len(reply) - 1)))
        reply[place : place + draw(st.integers(0, 8))] = draw(st.binary(max_size=8))
    return bytes(reply)


@st.composite
def shuffled(draw: st.DrawFn) -> bytes:
    """A reply of the right names with any values."""
    names = ["Code", "code", "RequestId", "Message", "SecretCallStatusDTO", "Data", "Status", "CalledNo"]
    fields = st.dictionaries(
        st.sampled_from([*names, "Extension", "state", "duration"]), anything, max_size=6
    )
    reply: dict[str, Any] = draw(fields) | {"SecretCallStatusDTO": draw(fields | anything)}
    if draw(st.booleans()):
        reply |= {"Code": "OK", "Data": json.dumps(draw(anything))}
    return json.dumps(reply).encode()


statuses = st.just(200) | st.integers(100, 599)
bodies = st.binary(max_size=300) | spoilt() | shuffled()
kinds = st.sampled_from(["application/json", "text/xml", "text/html; charset=gbk", ""]) | st.text(max_size=20)


@MANY
@given(statuses, st.none() | st.text(max_size=25), kinds, bodies)
@example(200, None, "application/json", REPLIES[0])  # chance alone seldom makes an answer
@example(200, None, "application/json", b'{"Code":"OK","SecretCallStatusDTO":{"Status":1}}')
def test_any_reply_can_be_read(status: int, retry_after: str | None, kind: str, body: bytes) -> None:
    result = read_status(status, retry_after, kind, body)
    assert isinstance(result, (Answer, NonAnswer))
    if isinstance(result, Answer):
        assert 200 <= status < 300
        assert result.called_no == "" or result.called_no.lstrip("+").isdecimal()
    assert isinstance(read_detail(status, retry_after, kind, body), (CallDetail, NonAnswer))


def a_gate() -> Authenticator:
    clock = iter(range(10**9))
    return Authenticator(
        ApiConfig(tokens=[token("me", "routes:read")[1]]), Metrics(), lambda: float(next(clock)) / 1000
    )  # type: ignore[list-item]


GATE = a_gate()
headers = (st.binary(max_size=200).map(lambda raw: raw.decode("utf-8", "surrogateescape"))) | st.text(
    st.characters(exclude_categories=["Cs"]), max_size=100
)


@MANY
@given(headers, headers)
def test_only_the_token_itself_authenticates(header: str, peer: str) -> None:
    for sent in (header, f"Bearer {header}", f"bearer  {header}", f"Bearer secret-of-me{header}"):
        if sent.strip().lower().removeprefix("bearer").strip() == "secret-of-me":
            continue
        with pytest.raises(Refusal) as caught:
            GATE.named(sent, peer)
        assert caught.value.status in (401, 429)
    assert GATE.named("Bearer secret-of-me", peer).name == "me"
    assert len(GATE.guessing) <= MOST_PEERS


MODELS: dict[str, type[BaseModel]] = {
    f"{endpoint.method} {endpoint.path}": endpoint.body for endpoint in ENDPOINTS if endpoint.body is not None
}


@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS.keys())
def test_any_body_is_accepted_or_refused_without_repeating_it(model: type[BaseModel]) -> None:
    names = sorted(model.model_fields) if not model.__name__.endswith("RootModel") else []

    @MANY
    @given(
        anything
        | st.dictionaries(st.sampled_from([*names, NUMBER]), anything | st.lists(anything), max_size=8)
    )
    def taken(sent: Any) -> None:
        try:
            model.model_validate(sent)
        except ValidationError as error:
            found = mistakes(error)
            told = orjson.dumps([[one.field, one.code, one.detail] for one in found])
            assert NUMBER.encode() not in told
            assert str(FieldErrors(422, found))

    taken()


@MANY
@given(st.lists(anything, max_size=5))
def test_each_item_of_a_batch_is_accepted_or_refused_separately(items: list[Any]) -> None:
    result = parse_batch(items, 0)
    assert len(result) == len(items)
    assert all(NUMBER not in str(what) for _, what in result)


def refused(body: bytes) -> None:
    with pytest.raises(Refusal):
        GATE.named(f"Bearer {body!r}", f"10.0.0.{body[-1]}")


GROWS: dict[str, Callable[[bytes], object]] = {
    "status": lambda body: read_status(200, None, "", body),
    "detail": lambda body: read_detail(200, None, "", body),
    "token": refused,
}


@pytest.mark.parametrize("read", GROWS.values(), ids=GROWS.keys())
def test_reading_arbitrary_input_does_not_grow_memory(read: Callable[[bytes], object]) -> None:
    def many(start: int) -> None:
        for place in range(start, start + 2000):
            for reply in (b'{"Code":"X%d","RequestId":"R-%d"}' % (place, place), REPLIES[0] + b"%d" % place):
                read(reply)

    many(0)
    gc.collect()
    tracemalloc.start()
    try:
        many(2000)
        gc.collect()
        left, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert left < 100_000
