"""Replies of the substitute actions: answers, "in effect", and failures."""

import json
from typing import Any

import pytest

from precall.core.model import Answer, Failure, InEffect, NonAnswer, Reply, Status
from precall.provider import read_secret_no, read_subscription

REQUEST_ID = "A90E4451-FED7-49D2-87C8-00700A8C4D0D"
REAL = ("13800000001", "13900000001")


def body(holder: str, **dto: Any) -> bytes:
    return json.dumps({"Code": "OK", "Message": "OK", "RequestId": REQUEST_ID, holder: dto}).encode()


def subscription(status: Any, **more: Any) -> Reply:
    dto = {"PhoneNoA": REAL[0], "PhoneNoB": REAL[1], "ExpireDate": "2026-01-02 03:04:05", **more}
    raw = body("SecretBindDetailDTO", Status=status, **dto)
    return read_subscription(200, None, "application/json", raw)


def secret_no(status: Any) -> Reply:
    return read_secret_no(
        200, None, "application/json", body("SecretNoInfoDTO", SecretStatus=status, City="X")
    )


def refused(code: str, reader: Any = read_secret_no, http_status: int = 200) -> Reply:
    reply: Reply = reader(http_status, None, "", json.dumps({"Code": code, "RequestId": REQUEST_ID}).encode())
    return reply


@pytest.mark.parametrize("spelt", [int, str])
def test_expired_is_an_answer_and_in_effect_is_not(spelt: type) -> None:
    assert subscription(spelt(0)) == Answer(Status.EXPIRED, request_id=REQUEST_ID)
    assert subscription(spelt(1)) == InEffect(x_sound=True, request_id=REQUEST_ID)
    assert [secret_no(spelt(status)) for status in range(4)] == [
        InEffect(x_sound=status == 1, request_id=REQUEST_ID) for status in range(4)
    ]


def test_no_number_leaves_the_reply() -> None:
    for status in (0, 1):
        shown = repr(subscription(status, PhoneNoX="17000000001", CalledNo=REAL[1]))
        assert not any(number in shown for number in (*REAL, "17000000001"))


def test_substitute_replies_in_xml_are_read() -> None:
    sent = (
        "<QuerySubscriptionDetailResponse><Code>OK</Code><SecretBindDetailDTO><Status>0</Status>"
        "</SecretBindDetailDTO></QuerySubscriptionDetailResponse>"
    )
    assert read_subscription(200, None, "text/xml", sent.encode()) == Answer(Status.EXPIRED)


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (None, "status_null"), ("", "status_null"), (2, "unknown_status"), (-1, "unknown_status"),
        ("x", "status_text"), (True, "status_type"), (1.0, "status_type"), ([1], "status_type"),
    ],
)  # fmt: skip
def test_unknown_substitute_statuses_are_malformed(sent: object, code: str) -> None:
    reply = subscription(sent)
    assert isinstance(reply, NonAnswer)
    assert (reply.failure, reply.code, reply.request_id) == (Failure.MALFORMED, code, REQUEST_ID)


def test_a_reply_of_another_action_is_malformed() -> None:
    raw = body("SecretCallStatusDTO", Status=4, CalledNo="17000000000")
    for reader in (read_subscription, read_secret_no):
        reply = reader(200, None, "application/json", raw)
        assert isinstance(reply, NonAnswer)
        assert reply.code == "no_dto"
    unknown = secret_no(4)
    assert isinstance(unknown, NonAnswer)
    assert unknown.code == "unknown_status"


def test_an_x_unknown_to_the_pool_is_abnormal() -> None:
    for code in ("isv.NO_NOT_EXIST", "isv.NO_NOT_EXISTS", "isv.SUBS_NOT_EXIST"):
        assert refused(code) == InEffect(x_sound=False, request_id=REQUEST_ID)


@pytest.mark.parametrize(
    ("code", "failure"),
    [
        ("isv.FLOW_LIMIT", Failure.THROTTLED),
        ("InvalidApi.NotFound", Failure.ACCOUNT),
        ("isv.POOLKEY_NOT_EXISTS", Failure.REFUSED),
        ("isp.SYSTEM_ERROR", Failure.TRANSIENT),
    ],
)
def test_failures_are_classified_as_for_query_call_status(code: str, failure: Failure) -> None:
    for reader in (read_subscription, read_secret_no):
        reply = refused(code, reader)
        assert isinstance(reply, NonAnswer)
        assert reply.failure is failure


def test_the_first_no_such_binding_is_only_a_doubt() -> None:
    reply = refused("isv.SUBS_NOT_EXIST", read_subscription)
    assert isinstance(reply, NonAnswer)
    assert reply.failure is Failure.GONE
