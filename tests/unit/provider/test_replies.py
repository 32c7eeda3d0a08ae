"""What the provider sends, read: answers, and every way in which a reply can be none."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from precall.core.model import Answer, Failure, NonAnswer, Status
from precall.core.numbers import clean
from precall.provider.failures import (
    MEANINGS,
    TransportTrouble,
    classify,
    safe_code,
    stale_nonce,
    stale_token,
)
from precall.provider.replies import BODY_LIMIT, CallDetail, read_detail, read_status
from precall.provider.substitutes import read_secret_no, read_subscription
from tests.support.examples import examples

PAGES = Path(__file__).parents[2] / "data" / "product_pages"
REQUEST_ID = "E7F99446-8191-43C0-99B5-F58A6AEAD7D5"
X = "17000000000"
JSON = "application/json"


def status_of(body: object, http_status: int = 200, retry_after: str | None = None) -> Answer | NonAnswer:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return read_status(http_status, retry_after, JSON, raw)


def detail_of(body: object, http_status: int = 200) -> CallDetail | NonAnswer:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return read_detail(http_status, None, JSON, raw)


def ok(**dto: Any) -> dict[str, Any]:
    return {"Code": "OK", "Message": "OK", "RequestId": REQUEST_ID, "SecretCallStatusDTO": dto}


def refused(reply: object) -> NonAnswer:
    assert isinstance(reply, NonAnswer)
    return reply


# -- what is an answer


@pytest.mark.parametrize("form", ["json", "xml"])
def test_the_product_page_of_query_call_status(form: str) -> None:
    body = (PAGES / f"query_call_status.{form}").read_bytes()
    assert read_status(200, None, f"text/{form}", body) == Answer(Status.EXPIRED, X, "", REQUEST_ID)


@pytest.mark.parametrize("form", ["json", "xml"])
def test_the_product_page_of_query_call_detail(form: str) -> None:
    body = (PAGES / f"query_call_detail.{form}").read_bytes()
    assert read_detail(200, None, "", body) == CallDetail("A90E4451-FED7-49D2-87C8-00700A8C4D0D")


@pytest.mark.parametrize("status", [1, 2, 3, 4])
@pytest.mark.parametrize("spelt", [int, str])
def test_status_1_to_4_are_answers_also_as_text(status: int, spelt: type) -> None:
    reply = status_of(ok(Status=spelt(status), CalledNo=X))
    assert reply == Answer(Status(status), X, "", REQUEST_ID)
    assert type(reply.status) is Status


@pytest.mark.parametrize(
    ("sent", "trouble"),
    [
        (None, TransportTrouble.STATUS_NULL),
        ("", TransportTrouble.STATUS_NULL),
        ("null", TransportTrouble.STATUS_NULL),
        (0, TransportTrouble.STATUS_ZERO),
        ("0", TransportTrouble.STATUS_ZERO),
        (5, TransportTrouble.UNKNOWN_STATUS),
        (-1, TransportTrouble.UNKNOWN_STATUS),
        ("5", TransportTrouble.UNKNOWN_STATUS),
        ("01", TransportTrouble.UNKNOWN_STATUS),
        (True, TransportTrouble.STATUS_BOOL),
        (1.0, TransportTrouble.STATUS_FLOAT),
        ("x", TransportTrouble.STATUS_TEXT),
        (" 1", TransportTrouble.STATUS_TEXT),
        ("١", TransportTrouble.STATUS_TEXT),
        ([1], TransportTrouble.STATUS_TYPE),
        ({}, TransportTrouble.STATUS_TYPE),
    ],
)
def test_any_other_status_is_malformed_each_with_its_code(sent: object, trouble: TransportTrouble) -> None:
    reply = refused(status_of(ok(Status=sent, CalledNo=X)))
    assert (reply.failure, reply.code, reply.request_id) == (Failure.MALFORMED, trouble, REQUEST_ID)


@pytest.mark.parametrize("dto", [{}, {"CalledNo": None}, {"CalledNo": ""}, {"CalledNo": "null"}])
def test_every_form_of_a_missing_number_is_accepted(dto: dict[str, Any]) -> None:
    for status, malformed in ((1, False), (2, True), (3, False), (4, False)):
        assert status_of(ok(Status=status, **dto)) == Answer(Status(status), "", "", REQUEST_ID, malformed)


@pytest.mark.parametrize(
    "sent", ["x", "17", "1" * 21, 17000000000, True, [], "1700000000a", "17000000000-12", "1700000000012"]
)
def test_a_malformed_number_keeps_the_status_and_is_flagged(sent: object) -> None:
    assert status_of(ok(Status=4, CalledNo=sent)) == Answer(
        Status.EXPIRED, "", "", REQUEST_ID, malformed=True
    )


def test_numbers_are_cleaned() -> None:
    assert status_of(ok(Status=1, CalledNo="+86 170-0000-0000")) == Answer(
        Status.NORMAL, "+8617000000000", "", REQUEST_ID
    )


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ("12", "12"),
        ("007", "007"),
        (" 8021 ", "8021"),
        (8021, "8021"),
        (0, "0"),
        (None, ""),
        ("", ""),
        ("null", ""),
    ],
)
@pytest.mark.parametrize("status", [1, 2])
def test_an_extension_is_dialled_digit_by_digit(status: int, sent: object, kept: str) -> None:
    reply = status_of(ok(Status=status, CalledNo=X, Extension=sent))
    assert reply == Answer(Status(status), X, kept, REQUEST_ID)


@pytest.mark.parametrize("sent", ["1a", "80-21", "1" * 21, "8,021", 80.21, 1e3, -1, True, ["8021"], {"a": 1}])
def test_a_number_whose_extension_cannot_be_read_is_not_dialled_without_it(sent: object) -> None:
    kept = refused(status_of(ok(Status=1, CalledNo=X, Extension=sent)))
    assert (kept.failure, kept.code) == (Failure.MALFORMED, TransportTrouble.BAD_EXTENSION)
    held = status_of(ok(Status=2, CalledNo=X, Extension=sent))
    assert held == Answer(Status.TEMPORARY, "", "", REQUEST_ID, malformed=True)
    for status in (3, 4):
        assert status_of(ok(Status=status, CalledNo=None, Extension=sent)) == Answer(
            Status(status), "", "", REQUEST_ID, malformed=True
        )


def test_a_request_id_is_kept_when_it_looks_like_one_and_is_no_number() -> None:
    for sent, kept in (
        (REQUEST_ID, REQUEST_ID),
        ("13800000000", ""),
        ("a b", ""),
        (7, ""),
        ("a" * 65, ""),
        ("138-00", ""),
    ):
        assert status_of(ok(Status=1) | {"RequestId": sent}) == Answer(Status.NORMAL, "", "", kept)


def test_a_byte_order_mark_and_blanks_around_are_harmless() -> None:
    body = b"\xef\xbb\xbf \n" + json.dumps(ok(Status=1)).encode() + b"\n"
    assert status_of(body) == Answer(Status.NORMAL, "", "", REQUEST_ID)


def test_xml_in_another_order_with_status_3_and_no_number() -> None:
    body = (
        b'<?xml version="1.0" encoding="UTF-8"?><QueryCallStatusResponse><Code>OK</Code><SecretCallStatusDTO>'
        b"<CalledNo/><Status> 3 </Status></SecretCallStatusDTO></QueryCallStatusResponse>"
    )
    assert read_status(200, None, "text/xml", body) == Answer(Status.UNREACHABLE)


# -- what is none


@pytest.mark.parametrize(
    ("http_status", "content_type", "body", "failure", "code"),
    [
        (200, JSON, b"", Failure.TRANSIENT, "empty"),
        (200, JSON, b" \n", Failure.TRANSIENT, "empty"),
        (200, "text/html", b"<html><body>busy</body></html>", Failure.TRANSIENT, "html"),
        (200, "text/html", b"<!DOCTYPE html><p>", Failure.TRANSIENT, "html"),
        (200, "text/html", b"<p>busy<br>", Failure.TRANSIENT, "html"),
        (200, "text/HTML", b"busy", Failure.TRANSIENT, "html"),
        (502, "text/html", b"<html>", Failure.TRANSIENT, "http_5xx"),
        (503, JSON, b"", Failure.TRANSIENT, "http_5xx"),
        (500, JSON, b'{"Code":"OK","SecretCallStatusDTO":{"Status":3}}', Failure.TRANSIENT, "http_5xx"),
        (400, JSON, b'{"Code":"OK","SecretCallStatusDTO":{"Status":3}}', Failure.MALFORMED, "not_http_200"),
        (302, "text/html", b"<html>", Failure.TRANSIENT, "redirect"),
        (429, JSON, b"slow down", Failure.THROTTLED, "http_429"),
        (404, "text/html", b"<html>", Failure.ACCOUNT, "http_404"),
        (403, JSON, b"", Failure.ACCOUNT, "http_denied"),
        (200, JSON, b'{"Code":"OK","Sec', Failure.MALFORMED, "bad_json"),
        (200, JSON, b"\xff\xfe", Failure.MALFORMED, "bad_json"),
        (200, JSON, b'{"a":' * 20_000, Failure.MALFORMED, "body_too_large"),
        (200, JSON, b'{"a":' * 10_000, Failure.MALFORMED, "bad_json"),
        (200, JSON, b"[" * 10_000 + b"]" * 10_000, Failure.MALFORMED, "bad_json"),
        (200, JSON, b" " * (BODY_LIMIT + 1), Failure.MALFORMED, "body_too_large"),
        (200, JSON, b"[]", Failure.MALFORMED, "not_an_object"),
        (200, JSON, b"{}", Failure.MALFORMED, "no_code"),
        (200, JSON, b'{"Code":null}', Failure.MALFORMED, "no_code"),
        (200, JSON, b'{"Code":" "}', Failure.MALFORMED, "no_code"),
        (200, JSON, b'{"Code":"OK"}', Failure.MALFORMED, "no_dto"),
        (200, JSON, b'{"Code":"OK","SecretCallStatusDTO":"1"}', Failure.MALFORMED, "no_dto"),
        (200, JSON, b'{"Code":"OK","SecretCallStatusDTO":[{"Status":1}]}', Failure.MALFORMED, "no_dto"),
        (200, JSON, b'{"Code":"ok","SecretCallStatusDTO":{"Status":1}}', Failure.MALFORMED, "unknown_code"),
        (200, "text/xml", b"<a><Code>OK</Code>", Failure.MALFORMED, "bad_xml"),
        (200, "text/xml", b"<a>" * 8_000 + b"</a>" * 8_000, Failure.MALFORMED, "no_code"),
        (200, "text/xml", b'<?xml version="1.0" encoding="none"?><a/>', Failure.MALFORMED, "bad_xml"),
        (200, "text/xml", b'<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>', Failure.MALFORMED, "bad_xml"),
        (
            200,
            "text/xml",
            b"<a><Code>OK</Code><SecretCallStatusDTO><Status>1</Status><Status>3</Status></SecretCallStatusDTO></a>",
            Failure.MALFORMED,
            "bad_xml",
        ),
        (200, "text/xml", b"<a><Code>OK</Code><Code>OK</Code></a>", Failure.MALFORMED, "bad_xml"),
        (200, "text/xml", b"<a><Code>OK</Code><SecretCallStatusDTO/></a>", Failure.MALFORMED, "no_dto"),
    ],
)
def test_malformed_replies_are_not_answers(
    http_status: int, content_type: str, body: bytes, failure: Failure, code: str
) -> None:
    reply = refused(read_status(http_status, None, content_type, body))
    assert (reply.failure, reply.code) == (failure, code)


ANSWER_1 = '"SecretCallStatusDTO":{"Status":1,"CalledNo":"17000000001"}'
DETAIL_1 = '"state":"200000","duration":3'


@pytest.mark.parametrize(
    "body",
    [
        f'{{"Code":"OK",{ANSWER_1},"SecretCallStatusDTO":{{"Status":4}}}}',
        f'{{"Code":"OK",{ANSWER_1},{ANSWER_1}}}',
        '{"Code":"OK","SecretCallStatusDTO":{"Status":1,"Status":3}}',
        '{"Code":"OK","SecretCallStatusDTO":{"Status" : 1, "Status" : 3}}',
        '{"Code":"OK","SecretCallStatusDTO":{"Status":2,"CalledNo":"17100000001","CalledNo":"17100000002"}}',
        '{"Code":"OK","SecretCallStatusDTO":{"Status":2,"CalledNo":"17100000001","Called\\u004eo":"17100000002"}}',
        f'{{"Code":"isv.SUBS_NOT_EXIST","Code":"OK",{ANSWER_1}}}',
        f'{{"Code":"OK",{ANSWER_1},"Code":"isv.SUBS_NOT_EXIST"}}',
        f'{{"Code":"OK","code":"isv.SUBS_NOT_EXIST",{ANSWER_1}}}',
        f'{{"code":"OK","Code":"isv.SUBS_NOT_EXIST",{ANSWER_1}}}',
        f'{{"Code":"OK","code":null,{ANSWER_1}}}',
        f'{{"Code":"OK",{ANSWER_1},"Message":"OK","Message":"no"}}',
        f'{{"Code":"OK",{ANSWER_1},"a":[{{"b":1,"b":1}}]}}',
        '{"Code":"isv.SUBS_NOT_EXIST","Message":"a","Message":"b"}',
        "<a><Code>OK</Code><code>isv.SUBS_NOT_EXIST</code></a>",
    ],
)
def test_a_reply_with_contradicting_keys_is_malformed(body: str) -> None:
    for read in (read_status, read_detail, read_subscription, read_secret_no):
        reply = refused(read(200, None, JSON, body.encode()))
        assert (reply.failure, reply.code) == (Failure.MALFORMED, "contradictory")


@pytest.mark.parametrize(
    "data",
    [
        f'{{{DETAIL_1},"duration":0}}',
        f'{{{DETAIL_1},"state" :"200005"}}',
        "{“state”:“200000”,“state”:“200005”}",
        '\\{"state":"200000","state":"200005"\\}',
    ],
)
def test_a_call_detail_with_contradicting_keys_is_malformed(data: str) -> None:
    for form in (JSON, "text/xml"):
        body = json.dumps({"Code": "OK", "Data": data})
        if form != JSON:
            body = f"<a><Code>OK</Code><Data>{data}</Data></a>"
        reply = refused(read_detail(200, None, form, body.encode()))
        assert (reply.failure, reply.code) == (Failure.MALFORMED, "contradictory")


def test_equal_values_in_both_capitalizations_are_accepted() -> None:
    assert isinstance(status_of(ok(Status=1) | {"code": "OK"}), Answer)
    times = ok(Status=1) | {"Message": 'at "03:04:05": done', "a": ":b"}
    assert isinstance(status_of(times), Answer)


UNDECODABLE = [
    b'"Message":"\xc7\xeb\xc7\xf3\xb9\xfd\xc6\xb5"',  # GBK
    b'"Message":"\xe8\xaf\xb7\xe6\xb1"',  # UTF-8, cut within a character
    b'"Message":"\xff\xfe"',
    b'"Message":"two\nlines"',
    b'"Message":"\\ud800"',
]


@pytest.mark.parametrize("message", UNDECODABLE)
@pytest.mark.parametrize("order", [1, -1])
def test_an_undecodable_reply_is_classified_by_its_code(message: bytes, order: int) -> None:
    for code, failure, heeded in (
        ("Throttling.User", Failure.THROTTLED, True),
        ("isv.FLOW_LIMIT", Failure.THROTTLED, True),
        ("SignatureNonceUsed", Failure.STALE, True),
        ("InvalidAccessKeyId.NotFound", Failure.ACCOUNT, True),
        ("isv.OUT_OF_SERVICE", Failure.ACCOUNT, True),
        ("isp.SYSTEM_ERROR", Failure.TRANSIENT, True),
        ("isv.SUBS_NOT_EXIST", Failure.MALFORMED, False),
        ("OK", Failure.MALFORMED, False),
    ):
        parts = [b'"Code":"%s"' % code.encode(), message]
        body = b"{" + b",".join(parts[::order]) + b"}"
        reply = refused(read_status(400, "1500", JSON, body))
        assert (reply.failure, reply.code) == (failure, code if heeded else "bad_json")
        assert reply.retry_after == 1.5


def test_an_undecodable_xml_reply_is_classified_by_its_code() -> None:
    body = b"<Error><Code>Throttling.User</Code><Message>\xc7\xeb\xc7\xf3</Message></Error>"
    for head in (b"", b'<?xml version="1.0" encoding="UTF-8"?>'):
        assert refused(read_status(400, None, "text/xml", head + body)).failure is Failure.THROTTLED


@pytest.mark.parametrize(
    "body",
    [
        b'{"Code":"Throttling.User","Message":"\xff',
        b'{"Code":"Throttling.User","Code":"isv.SUBS_NOT_EXIST","Message":"\xff"}',
        b'{"Code":"Throttling.User","code":"OK","Message":"\xff"}',
        b'{"Code":["Throttling.User"],"Message":"\xff"}',
        b'["Throttling.User","\xff"]',
    ],
)
def test_truncated_and_contradicting_replies_stay_malformed(body: bytes) -> None:
    assert refused(read_status(400, None, JSON, body)).failure is Failure.MALFORMED


def test_an_unannounced_compressed_reply_is_recognised() -> None:
    reply = refused(read_status(200, None, JSON, gzip.compress(json.dumps(ok(Status=1)).encode())))
    assert (reply.failure, reply.code) == (Failure.MALFORMED, "compressed")


CLASSES = {
    Failure.THROTTLED: "Throttling Throttling.User throttling.api isv.FLOW_LIMIT isv.FLOW_CONTROL FlowLimit.X"
    " isv.BUSINESS_LIMIT_CONTROL QPS_LIMIT",
    Failure.STALE: "SignatureNonceUsed",
    Failure.GONE: "isv.SUBS_NOT_EXIST SUBS_NOT_EXIST isv.subs_not_exists",
    Failure.REFUSED: "isv.SUBS_NOT_BELONG isv.POOLKEY_NOT_EXISTS POOLKEY_NOT_EXIST PoolKeyNotFound MissingSubsId"
    " InvalidPoolKey InvalidParameter.date InvalidParameters isv.INVALID_PARAMETERS isv.ILLEGAL_ARGUMENT"
    " isv.MOBILE_NUMBER_ILLEGAL isv.NO_AVAILABLE_NUMBER isv.NEVER_SEEN isv.FORBIDDEN_ACTION",
    Failure.ACCOUNT: "isv.OUT_OF_SERVICE isv.PRODUCT_UN_SUBSCRIPT isv.PRODUCT_UNSUBSCRIBE ProductUnsubscribe"
    " isv.ACCOUNT_NOT_EXISTS isv.ACCOUNT_ABNORMAL isp.RAM_PERMISSION_DENY Forbidden.RAM NoPermission"
    " InvalidApi.NotFound InvalidAction.NotFound InvalidVersion NoSuchVersion InvalidAccessKeyId.NotFound"
    " InvalidAccessKeyId.Inactive SignatureDoesNotMatch IncompleteSignature"
    " InvalidTimeStamp.Expired InvalidTimeStamp.Format InvalidSecurityToken.Expired MissingSecurityToken"
    " InvalidProtocol.NeedSsl",
    Failure.TRANSIENT: "isp.SYSTEM_ERROR isp.UNKNOWN_ERR_CODE isp.DAO_EXCEPTION isp.GATEWAY_ERROR"
    " isp.VENDOR_UNAVAILABLE isp.NEVER_SEEN isv.PARTNER_NOT_EXIST ServiceUnavailable InternalError",
    Failure.MALFORMED: "NeverSeen",
}


@pytest.mark.parametrize(
    ("code", "failure"), [(code, kind) for kind, codes in CLASSES.items() for code in codes.split()]
)
@pytest.mark.parametrize("http_status", [200, 400])
def test_codes_are_classified_whatever_the_http_status(code: str, failure: Failure, http_status: int) -> None:
    body = {"Code": code, "Message": "13800000000 echoed", "RequestId": REQUEST_ID}
    reply = refused(status_of(body, http_status))
    assert (reply.failure, reply.request_id) == (failure, REQUEST_ID)
    assert reply.code == ("unknown_code" if failure is Failure.MALFORMED else code)
    assert "echoed" not in repr(reply)
    assert "138" not in repr(reply)
    assert refused(read_detail(http_status, None, JSON, json.dumps(body).encode())) == reply


@pytest.mark.parametrize(
    ("http_status", "failure"),
    [
        (500, Failure.TRANSIENT),
        (503, Failure.TRANSIENT),
        (429, Failure.THROTTLED),
        (404, Failure.ACCOUNT),
        (403, Failure.ACCOUNT),
        (400, Failure.MALFORMED),
    ],
)
def test_unlisted_codes_are_classified_by_the_http_status(http_status: int, failure: Failure) -> None:
    assert refused(status_of({"Code": "NeverSeen"}, http_status)).failure is failure


def test_the_same_business_code_is_the_same_under_a_server_error() -> None:
    for code, failure in (("isv.SUBS_NOT_EXIST", Failure.GONE), ("isv.FLOW_LIMIT", Failure.THROTTLED)):
        assert refused(status_of({"Code": code}, 500)).failure is failure


def test_an_xml_error_and_one_with_small_initials() -> None:
    xml = f"<Error><RequestId>{REQUEST_ID}</RequestId><HostId>h</HostId><Code>Throttling.User</Code></Error>".encode()
    small = {"code": "Throttling.User", "requestId": REQUEST_ID}
    assert read_status(400, None, "text/xml;charset=utf-8", xml) == status_of(small, 400)
    assert refused(status_of(small, 400)).request_id == REQUEST_ID


def test_an_unknown_action_is_explained() -> None:
    detail = refused(status_of({"Code": "InvalidApi.NotFound"}, 404)).detail
    assert "delisted" in detail
    assert "routes" not in detail, "a query about a call has no route"


@pytest.mark.parametrize(
    ("sent", "seconds"),
    [
        ("300", 0.3),
        (" 1500 ", 1.5),
        ("60001", 60.0),
        ("9" * 18, 60.0),
        ("0", None),
        ("-5", None),
        ("1.5", None),
        ("soon", None),
        ("", None),
        ("٣", None),
        (None, None),
    ],
)
def test_retry_after_is_milliseconds_within_bounds(sent: str | None, seconds: float | None) -> None:
    assert refused(status_of({"Code": "Throttling.User"}, 400, sent)).retry_after == seconds


def test_codes_are_made_safe() -> None:
    assert classify("号码", 500).code == TransportTrouble.UNKNOWN_CODE
    assert safe_code("isv.A-b_c\n<x> 13800000000") == "isv.A-b_cx0"
    assert len(safe_code("a" * 1000)) == 64


def test_only_stale_nonces_and_tokens_are_retried() -> None:
    assert stale_nonce(classify("SignatureNonceUsed", 400))
    assert stale_token(classify("InvalidSecurityToken.Expired", 400))
    for code in " ".join(CLASSES.values()).split():
        reply = classify(code, 400)
        assert stale_nonce(reply) == (code == "SignatureNonceUsed")
        assert stale_token(reply) == ("SecurityToken" in code)


def test_each_code_of_precall_is_classified_and_explained() -> None:
    assert set(MEANINGS) == set(TransportTrouble)
    assert all(explanation for _, explanation in MEANINGS.values())


# -- call details

DATA = {
    "caller": "18767130000",
    "callee": "13735460000",
    "state": "200000",
    "stateDesc": "ok",
    "duration": 31,
    "more": 1,
}


@pytest.mark.parametrize(
    "sent", [{}, {"Data": None}, {"Data": ""}, {"Data": "  "}, {"Data": "null"}, {"Data": "{}"}, {"Data": {}}]
)
def test_no_data_is_nothing_yet(sent: dict[str, Any]) -> None:
    assert detail_of({"Code": "OK", "RequestId": REQUEST_ID, **sent}) == CallDetail(REQUEST_ID)


def test_data_not_available_is_nothing_yet() -> None:
    assert detail_of({"Code": "100008.0", "RequestId": REQUEST_ID}, 400) == CallDetail(REQUEST_ID)


@pytest.mark.parametrize("data", [json.dumps(DATA), DATA])
def test_data_is_json_in_a_string(data: object) -> None:
    detail = detail_of({"Code": "OK", "Data": data})
    assert detail == CallDetail("", DATA, "200000", "ok", 31, "18767130000", "13735460000")
    assert "187" not in repr(detail)


def test_data_as_the_product_page_prints_it() -> None:
    data = (PAGES / "query_call_detail_data.txt").read_text(encoding="utf-8").strip()
    detail = detail_of({"Code": "OK", "Data": data})
    assert isinstance(detail, CallDetail)
    assert (detail.state, detail.duration, detail.caller) == ("502", 0, "18767130000")


@pytest.mark.parametrize(
    ("sent", "seconds"),
    [
        (0, 0),
        ("31", 31),
        (-1, None),
        ("-1", None),
        (1.5, None),
        (True, None),
        ("x", None),
        (None, None),
        ("9" * 30, None),
    ],
)
def test_a_duration_is_whole_seconds(sent: object, seconds: int | None) -> None:
    detail = detail_of({"Code": "OK", "Data": json.dumps({"duration": sent})})
    assert isinstance(detail, CallDetail)
    assert detail.duration == seconds


@pytest.mark.parametrize("data", ["{", "[]", "7", '"{}"', [], 7, True])
def test_data_that_cannot_be_decoded_is_malformed(data: object) -> None:
    assert refused(detail_of({"Code": "OK", "Data": data})).code == TransportTrouble.BAD_DATA


# -- anything

leaves = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=12)
words = st.sampled_from(
    [
        "Code",
        "code",
        "OK",
        "Status",
        "CalledNo",
        "Extension",
        "RequestId",
        "SecretCallStatusDTO",
        "Data",
        "1",
        "3",
    ]
)
values = st.recursive(
    leaves | words,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(words | st.text(max_size=5), inner, max_size=5)
    ),
)
replies = st.fixed_dictionaries(
    {},
    optional={
        "Code": st.just("OK") | st.sampled_from(" ".join(CLASSES.values()).split()) | values,
        "RequestId": st.just(REQUEST_ID) | values,
        "SecretCallStatusDTO": st.fixed_dictionaries(
            {},
            optional={
                "Status": st.integers(-1, 6) | words | values,
                "CalledNo": st.just(X) | values,
                "Extension": values,
            },
        )
        | values,
        "Data": st.just(json.dumps(DATA)) | st.text() | values,
    },
)


def as_xml(value: object) -> str:
    if isinstance(value, dict):
        return "".join(f"<{key}>{as_xml(inner)}</{key}>" for key, inner in value.items())
    return str(value)


bodies = (
    st.binary(max_size=200)
    | values.map(lambda value: json.dumps(value).encode())
    | replies.map(lambda reply: json.dumps(reply).encode())
    | replies.map(lambda reply: f"<R>{as_xml(reply)}</R>".encode("utf-8", "replace"))
    | st.sampled_from([page.read_bytes() for page in sorted(PAGES.iterdir())])
)
statuses = st.sampled_from([200, 200, 200, 204, 301, 400, 403, 404, 429, 500, 503]) | st.integers(100, 999)


def is_well_formed(body: bytes) -> bool:
    """By other means than the reader's: one of the accepted statuses is spelt somewhere next to its name."""
    flat = body.replace(b" ", b"").replace(b"\n", b"").replace(b"\t", b"")
    spelt = [form % digit for digit in b"1234" for form in (b'"Status":%c', b'"Status":"%c"', b"<Status>%c<")]
    return any(form in flat for form in spelt) and b"SecretCallStatusDTO" in flat and b"OK" in flat


def check_any_reply(http_status: int, retry_after: str | None, content_type: str, body: bytes) -> None:
    reply = read_status(http_status, retry_after, content_type, body)
    if isinstance(reply, Answer):
        assert 200 <= http_status < 300
        assert is_well_formed(body)
        assert reply.called_no == clean(reply.called_no)
    else:
        assert 0 < len(reply.code) <= 64
        assert reply.retry_after is None or 0 < reply.retry_after <= 60
    detail = read_detail(http_status, retry_after, content_type, body)
    assert isinstance(detail, NonAnswer) or detail.duration is None or detail.duration >= 0


anything = given(
    statuses, st.none() | st.text(max_size=8), st.sampled_from(["", JSON, "text/xml", "text/html"]), bodies
)


@anything
@examples(150, 10_000)
def test_no_reply_raises_and_only_well_formed_ones_are_answers(
    http_status: int, retry_after: str | None, content_type: str, body: bytes
) -> None:
    check_any_reply(http_status, retry_after, content_type, body)
