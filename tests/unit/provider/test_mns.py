"""The protocol of the provider's message queue."""

import base64
from typing import Any

import orjson
import pytest

from precall.core.model import Failure, NonAnswer
from precall.provider.mns import (
    QueueMessage,
    QueueToken,
    deletion_body,
    messages_target,
    read_deletion,
    read_messages,
    read_token,
    signature,
    signed_headers,
)
from precall.provider.sign import Credential

NAMESPACE = 'xmlns="http://mns.aliyuncs.com/doc/v1/"'


def error(code: str, root: str = "Error") -> bytes:
    named = "Code" if root == "Error" else "ErrorCode"
    fields = f"<{named}>{code}</{named}><Message>about 17000000001</Message><RequestId>51E29A0B</RequestId>"
    inner = fields if root == "Error" else f"<Error>{fields}</Error>"
    return f'<?xml version="1.0"?>\n<{root} {NAMESPACE}>{inner}</{root}>'.encode()


def messages(*bodies: str, handle: str = "1-ODU=") -> bytes:
    each = "".join(
        f"<Message><MessageId>5F29</MessageId><ReceiptHandle>{handle}</ReceiptHandle>"
        f"<MessageBody>{body}</MessageBody><DequeueCount>1</DequeueCount></Message>"
        for body in bodies
    )
    return f'<?xml version="1.0" encoding="UTF-8"?>\n<Messages {NAMESPACE}>{each}</Messages>'.encode()


def test_the_example_of_the_signature_page() -> None:
    """The page prints the signature but for its last characters: uwx3yeWoILzgmvesW0BQSgfM****."""
    made = signature("TestAccessSecret", "GET", "/MyQueue", "Thu, 09 Jul 2015 03:01:34 GMT")
    assert made == "uwx3yeWoILzgmvesW0BQSgfM7b8="


def test_query_type_and_token_are_part_of_a_request() -> None:
    credential = Credential("STS.id", "secret", "token")
    headers = signed_headers(credential, "GET", messages_target("Q-SecretReport"), 1_700_000_000.5)
    expected = signature(
        "secret",
        "GET",
        "/queues/Q-SecretReport/messages?numOfMessages=16&waitseconds=20",
        "Tue, 14 Nov 2023 22:13:20 GMT",
        "text/xml;charset=utf-8",
    )
    assert headers == {
        "Authorization": f"MNS STS.id:{expected}",
        "Content-Type": "text/xml;charset=utf-8",
        "Date": "Tue, 14 Nov 2023 22:13:20 GMT",
        "x-mns-version": "2015-06-06",
        "security-token": "token",
    }
    assert "security-token" not in signed_headers(Credential("id", "secret"), "GET", "/", 0)


def test_bodies_are_decoded_whether_or_not_in_base64() -> None:
    report = '{"noStatus": 0}'
    got = read_messages(200, None, "text/xml", messages(base64.b64encode(report.encode()).decode(), report))
    assert isinstance(got, list)
    assert [one.content for one in got] == [report.encode()] * 2
    assert {one.handle for one in got} == {"1-ODU="}
    assert "noStatus" not in repr(got)


def test_a_message_without_handle_is_left_out() -> None:
    assert read_messages(200, None, "text/xml", messages("e30=", handle="")) == []


def test_an_empty_queue_is_no_failure() -> None:
    assert read_messages(404, None, "text/xml", error("MessageNotExist")) == []


@pytest.mark.parametrize(
    ("status", "body", "code", "failure"),
    [
        (404, error("QueueNotExist"), "QueueNotExist", Failure.REFUSED),
        (403, error("AccessDenied"), "AccessDenied", Failure.ACCOUNT),
        (403, error("SignatureDoesNotMatch"), "SignatureDoesNotMatch", Failure.ACCOUNT),
        (400, error("TimeExpired"), "TimeExpired", Failure.REFUSED),
        (500, error("InternalError"), "InternalError", Failure.TRANSIENT),
        (502, b"<html>", "http_5xx", Failure.TRANSIENT),
        (200, b"", "bad_xml", Failure.MALFORMED),
        (200, b'<!DOCTYPE a [<!ENTITY b "c">]><Messages>&b;</Messages>', "bad_xml", Failure.MALFORMED),
    ],
)
def test_a_refusal_is_named_without_its_message(
    status: int, body: bytes, code: str, failure: Failure
) -> None:
    got = read_messages(status, None, "text/xml", body)
    assert isinstance(got, NonAnswer)
    assert (got.code, got.failure) == (code, failure)
    assert "17000000001" not in repr(got)


def test_a_deletion_names_every_handle() -> None:
    body = deletion_body([QueueMessage("a", "1-a<", b""), QueueMessage("b", "1-b", b"")])
    assert b"<ReceiptHandle>1-a&lt;</ReceiptHandle><ReceiptHandle>1-b</ReceiptHandle>" in body


@pytest.mark.parametrize(
    ("status", "body", "code"),
    [
        (204, b"", ""),
        (404, error("ReceiptHandleError", "Errors"), ""),
        (404, error("MessageNotExist", "Errors"), ""),
        (500, error("InternalError", "Errors"), "InternalError"),
        (404, error("QueueNotExist"), "QueueNotExist"),
        (503, b"busy", "http_5xx"),
    ],
)
def test_messages_that_are_gone_need_no_deletion(status: int, body: bytes, code: str) -> None:
    got = read_deletion(status, None, "text/xml", body)
    assert (got.code if got else "") == code


@pytest.mark.parametrize(
    ("dto", "expires_at"),
    [
        ({"ExpireTime": "2026-01-02 03:04:05"}, 1_767_294_245.0),
        ({"ExpireTime": "soon"}, None),
        ({"ExpireTime": "2026-02-31 00:00:00"}, None),
        ({}, None),
    ],
)
def test_a_token_ends_by_the_clock_of_beijing(dto: dict[str, Any], expires_at: float | None) -> None:
    keys = {"AccessKeyId": "STS.id", "AccessKeySecret": "secret", "SecurityToken": "token"}
    body = orjson.dumps({"Code": "OK", "RequestId": "E7F9", "MessageTokenDTO": keys | dto})
    assert read_token(200, None, "application/json", body) == QueueToken(
        Credential("STS.id", "secret", "token"), expires_at
    )


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b'{"Code": "OK"}', "no_dto"),
        (b'{"Code": "OK", "MessageTokenDTO": {"AccessKeyId": "i"}}', "bad_data"),
        (b'{"Code": "isv.NO_PERMISSION"}', "isv.NO_PERMISSION"),
    ],
)
def test_a_reply_without_a_token_is_a_failure(body: bytes, code: str) -> None:
    got = read_token(200, None, "application/json", body)
    assert isinstance(got, NonAnswer)
    assert got.code == code
