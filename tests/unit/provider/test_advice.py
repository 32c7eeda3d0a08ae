"""The provider's advice on its errors: shown if it sent any, without numbers and secrets."""

import json
from typing import Any

import pytest

from precall.core.model import Answer, Failure, NonAnswer, Status
from precall.provider import DETAIL, NUMBER, STATUS, SUBSCRIPTION, RawReply, error_advice, read_status
from precall.provider.advice import LONGEST
from precall.provider.failures import TransportTrouble, trouble
from precall.telemetry.redaction import keep

STATUS_PAGE = "https://error-center.aliyun.com/status/product/Dyplsapi"
DETAIL_PAGE = "https://error-center.aliyun.com/status/product/Dyvmsapi"
REQUEST_ID = "E7F99446-8191-43C0-99B5-F58A6AEAD7D5"
LINK = f"https://api.aliyun.com/troubleshoot?q=isv.SUBS_NOT_EXIST&product=Dyplsapi&requestId={REQUEST_ID}"


def error(recommend: object, http_status: int = 400, **more: Any) -> RawReply:
    content = {"Code": "isv.SUBS_NOT_EXIST", "RequestId": REQUEST_ID, "Recommend": recommend} | more
    return RawReply(0.1, http_status, {"Content-Type": "application/json"}, json.dumps(content).encode())


def advised(recommend: object, **more: Any) -> str:
    reply = error(recommend, **more)
    return error_advice(STATUS, reply, reply.read(read_status)).recommend


def test_a_link_with_the_request_id_is_kept_unchanged() -> None:
    assert advised(LINK) == LINK


def test_xml_and_lowercase_keys_are_read() -> None:
    body = (
        f"<Error><Code>isv.SUBS_NOT_EXIST</Code><Recommend>{LINK.replace('&', '&amp;')}</Recommend></Error>"
    )
    reply = RawReply(0.1, 400, {"content-type": "text/xml"}, body.encode())
    found = error_advice(STATUS, reply, reply.read(read_status))
    assert found.recommend.startswith("https://api.aliyun.com/troubleshoot?q=isv.SUBS_NOT_EXIST")
    small = {"code": "isv.SUBS_NOT_EXIST", "recommend": "Look again."}
    reply = RawReply(0.1, 400, {}, json.dumps(small).encode())
    assert error_advice(STATUS, reply, reply.read(read_status)).recommend == "Look again."


@pytest.mark.parametrize(
    "number", ["13800000001", "+86 138-0000-0001", "138 0000 0001", "１３８０００００００１"]
)
def test_numbers_are_redacted(number: str) -> None:
    assert advised(f"The number {number} is not bound.") == "The number *** is not bound."
    assert number not in advised(f"https://x.example/?no={number}&requestId={REQUEST_ID}")


def test_secrets_are_redacted_and_control_characters_are_spaces() -> None:
    keep("a-secret-of-this-test")
    assert advised("use a-secret-of-this-test") == "use ***"
    assert advised("\x1b[31mred\nline\u202e") == "[31mred line"


def test_a_long_recommendation_is_cut() -> None:
    assert len(advised("word " * 1000)) <= LONGEST


@pytest.mark.parametrize("recommend", [None, "", 5, {"a": "b"}, ["x"]])
def test_a_recommendation_that_is_not_text_is_left_out(recommend: object) -> None:
    assert advised(recommend) == ""


@pytest.mark.parametrize(
    ("action", "page"),
    [(STATUS, STATUS_PAGE), (SUBSCRIPTION, STATUS_PAGE), (NUMBER, STATUS_PAGE), (DETAIL, DETAIL_PAGE)],
)
@pytest.mark.parametrize("code", ["isv.SUBS_NOT_EXIST", "Throttling.User", "a code that nobody knows"])
def test_every_code_of_the_provider_has_the_page_of_its_product(action: str, page: str, code: str) -> None:
    reply = error("", Code=code)
    assert error_advice(action, reply, reply.read(read_status)).page == page


@pytest.mark.parametrize(
    "what", [one for one in TransportTrouble if one is not TransportTrouble.UNKNOWN_CODE]
)
def test_a_failure_without_a_code_has_no_page(what: TransportTrouble) -> None:
    found = error_advice(STATUS, RawReply(0.1, failure=trouble(what)), trouble(what))
    assert (found.recommend, found.page) == ("", "")


def test_an_answer_has_no_advice() -> None:
    reply = error("anything", Code="OK")
    assert error_advice(STATUS, reply, Answer(Status.NORMAL)).page == ""


def test_an_unreadable_body_with_a_code_still_has_its_page() -> None:
    read = NonAnswer(Failure.THROTTLED, "Throttling.User")
    found = error_advice(STATUS, RawReply(0.1, 400, {}, b"\xff{"), read)
    assert (found.recommend, found.page) == ("", STATUS_PAGE)
