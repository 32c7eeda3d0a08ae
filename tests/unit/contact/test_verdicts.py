"""What single replies say about an assumption."""

import json
import re
from dataclasses import replace
from typing import Any

import pytest

from precall.config.schema import Config, keys
from precall.contact import PROBES, ContactRecord, ContactVerdict, Subject, SubjectKind, findings, kind_of
from precall.contact.calls import AskedCall, Question
from precall.contact.verdicts import JUDGES
from precall.core.model import Binding, NonAnswer
from precall.provider import STATUS, RawReply, TransportTrouble
from precall.provider.assumptions import ASSUMPTIONS, EVERY_CALL
from precall.provider.failures import trouble

BINDING = Binding("1000000768798832", "FC1", "17000000001", "13800000001", "13900000001", "12")
CONFIRMED, REFUTED, NOT_SEEN = ContactVerdict
ID = "E7F99446-8191-43C0-99B5-F58A6AEAD7D5"


def reply(content: object, http: int = 200, **headers: str) -> RawReply:
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    return RawReply(0.02, http, {name.replace("_", "-"): value for name, value in headers.items()}, body)


def answer(status: object, number: str | None, **more: object) -> RawReply:
    dto = {"Status": status, "CalledNo": number} | more
    return reply({"Code": "OK", "RequestId": ID, "SecretCallStatusDTO": dto})


def error(code: str, http: int = 200, **headers: str) -> RawReply:
    return reply({"Code": code, "RequestId": ID}, http, **headers)


def asked(probe: str, came: RawReply, **how: Any) -> AskedCall:
    given = {"action": STATUS, "parameters": {}, "signature": "acs3", "format": "json"}
    given["subject"] = Subject(SubjectKind.LIVE, BINDING)
    return AskedCall(Question(probe, **(given | how)), 1000.0, 1000.02, came)


def seen(name: str, *calls: AskedCall, **skipped: str) -> tuple[ContactVerdict, str]:
    record = ContactRecord(list(calls), skipped)
    [found] = [one for one in findings(record, timeout=2.0, rate=20.0) if one.assumption.name == name]
    return found.verdict, found.found


# -- the list ------------------------------------------------------------------------------------------------


def test_every_visible_assumption_has_a_judge_and_a_probe() -> None:
    names = [one.name for one in ASSUMPTIONS]
    assert len(set(names)) == len(names)
    assert set(JUDGES) == {one.name for one in ASSUMPTIONS if one.probe}
    for one in ASSUMPTIONS:
        assert one.probe in (*PROBES, EVERY_CALL, "")
        assert bool(one.hint) is bool(one.probe), one.name
        assert one.text.endswith(".")
        assert one.source


def test_every_key_that_a_hint_names_exists_and_takes_the_value() -> None:
    known = {*keys()}
    named = 0
    for one in ASSUMPTIONS:
        for name in re.findall(r"\b(?:provider|policy|freshness)\.[a-z_]+", f"{one.text} {one.hint}"):
            assert name in known, name
        for key, value in re.findall(r'provider\.([a-z_]+) = "([a-z_0-9]+)"', one.hint):
            assert getattr(Config(provider={key: value}).provider, key) == value
            named += 1
    assert named > 3


def test_without_a_call_nothing_is_seen_and_every_finding_has_a_reason() -> None:
    for finding in findings(ContactRecord(), timeout=2.0, rate=20.0):
        assert finding.verdict is NOT_SEEN
        assert finding.found
        assert not finding.hint


# -- each of them, both ways -----------------------------------------------------------------------------------

LIVE = asked("live", answer(1, "17000000001", Extension="12"))
GONE = error("isv.SUBS_NOT_EXIST")
DELISTED = error("InvalidAction.NotFound", 404)
LENT = asked("survey", answer(2, "17100000001", Extension="12"))
DATE = "Thu, 01 Jan 1970 00:16:40 GMT"


def paced(count: int, rate: float) -> list[AskedCall]:
    """Calls one after another that end at second 1000."""
    return [replace(LIVE, sent_at=1000.0 - (count - serial) / rate) for serial in range(count)]


def burst(let_through: int, throttled: int) -> list[AskedCall]:
    """Calls at second 1000."""
    return [asked("burst", GONE)] * let_through + [asked("burst", error("Throttling.User", 400))] * throttled


@pytest.mark.parametrize(
    ("name", "verdict", "calls"),
    [
        ("served", CONFIRMED, [LIVE]),
        ("served", CONFIRMED, [asked("live", DELISTED), asked("signature", GONE, signature="rpc")]),
        ("served", REFUTED, [asked("live", DELISTED)]),
        ("served", NOT_SEEN, [asked("live", error("Forbidden.RAM", 403))]),
        ("substitutes", REFUTED, [asked("subscription", DELISTED, action="QuerySubscriptionDetail")]),
        ("acs3", CONFIRMED, [LIVE]),
        (
            "acs3",
            REFUTED,
            [asked("live", error("SignatureDoesNotMatch", 400)), asked("signature", GONE, signature="rpc")],
        ),
        ("acs3", NOT_SEEN, [asked("live", error("SignatureDoesNotMatch", 400))]),
        ("rpc", NOT_SEEN, [LIVE]),
        ("json", CONFIRMED, [LIVE]),
        ("json", REFUTED, [asked("live", reply(b"<R><Code>isv.SUBS_NOT_EXIST</Code></R>"))]),
        ("xml", REFUTED, [asked("format", GONE, format="xml")]),
        ("request_id", REFUTED, [asked("live", reply({"Code": "isv.SUBS_NOT_EXIST"}))]),
        ("request_id", CONFIRMED, [LIVE, asked("unknown_action", DELISTED)]),
        ("request_id", REFUTED, [LIVE, asked("burst", reply(b"", 429))]),
        ("request_id", NOT_SEEN, [asked("live", RawReply(2.0, failure=trouble(TransportTrouble.TIMEOUT)))]),
        ("clock", CONFIRMED, [asked("live", reply({}, Date=DATE))]),
        ("clock", REFUTED, [asked("live", reply({}, Date="Thu, 01 Jan 1970 00:26:40 GMT"))]),
        ("clock", NOT_SEEN, [asked("live", reply({}))]),
        ("latency", REFUTED, [asked("live", RawReply(2.0, failure=trouble(TransportTrouble.TIMEOUT)))]),
        ("status_values", REFUTED, [asked("live", answer(5, "17000000001"))]),
        ("status_1", CONFIRMED, [LIVE]),
        ("status_1", CONFIRMED, [asked("live", answer(1, "+8617000000001"))]),
        ("status_1", REFUTED, [asked("live", answer(1, "17000000009"))]),
        ("status_2", CONFIRMED, [LENT]),
        ("status_2", REFUTED, [asked("survey", answer(2, "17000000001"))]),
        ("status_2", REFUTED, [asked("survey", answer(2, None))]),
        ("status_3", CONFIRMED, [asked("survey", answer(3, None))]),
        ("status_3", REFUTED, [asked("survey", answer(3, "17000000001"))]),
        ("extension", CONFIRMED, [LIVE]),
        ("extension", REFUTED, [asked("live", answer(1, "17000000001"))]),
        ("same_temporary", CONFIRMED, [LENT, asked("again", answer(2, "+8617100000001"))]),
        ("same_temporary", REFUTED, [LENT, asked("again", answer(2, "17100000002"))]),
        ("same_temporary", NOT_SEEN, [LENT, asked("again", answer(1, "17000000001"))]),
        ("call_no_optional", CONFIRMED, [LIVE]),
        ("call_no_optional", REFUTED, [asked("live", error("MissingCallNo", 400))]),
        ("call_no_a", CONFIRMED, [LIVE, asked("call_no_a", answer(1, "17000000001"), call_no="a")]),
        ("call_no_a", REFUTED, [LIVE, asked("call_no_a", answer(1, "17000000002"), call_no="a")]),
        ("call_no_b", REFUTED, [LIVE, asked("call_no_b", answer(3, None), call_no="b")]),
        (
            "call_no_b",
            NOT_SEEN,
            [LENT, asked("again", answer(2, "17100000002")), asked("call_no_b", answer(2, "17100000003"))],
        ),
        ("expired", CONFIRMED, [asked("expired", answer(4, "17000000001"))]),
        ("expired", REFUTED, [asked("expired", answer(1, "17000000001"))]),
        ("expired", REFUTED, [asked("expired", GONE)]),
        ("expired", NOT_SEEN, [asked("expired", error("Throttling.User", 400))]),
        ("unbound", CONFIRMED, [asked("unbound", GONE)]),
        ("unbound", REFUTED, [asked("unbound", answer(4, None))]),
        ("unknown_binding", REFUTED, [asked("unknown_binding", error("isv.INVALID_PARAMETERS"))]),
        ("unknown_pool", CONFIRMED, [asked("unknown_pool", error("PoolKeyNotFound", 400))]),
        ("unknown_pool", REFUTED, [asked("unknown_pool", GONE)]),
        ("business_http", CONFIRMED, [asked("unbound", GONE)]),
        ("business_http", REFUTED, [asked("unbound", error("isv.SUBS_NOT_EXIST", 400))]),
        ("unknown_action", CONFIRMED, [asked("unknown_action", DELISTED)]),
        ("unknown_action", REFUTED, [asked("unknown_action", error("isv.ILLEGAL_ARGUMENT"))]),
        ("rate", CONFIRMED, paced(20, 19.0)),
        ("rate", NOT_SEEN, [LIVE]),
        ("rate", NOT_SEEN, paced(30, 15.0)),
        ("rate", NOT_SEEN, paced(16, 19.0)),
        ("rate", NOT_SEEN, [*paced(16, 12.0), *burst(19, 0)]),
        ("rate", NOT_SEEN, [*paced(16, 12.0), *burst(5, 12)]),
        ("rate", CONFIRMED, [*paced(16, 12.0), *burst(20, 24)]),
        ("rate", REFUTED, [*paced(16, 8.0), *burst(5, 39)]),
        ("rate", REFUTED, [LIVE, asked("expired", error("Throttling.User", 400))]),
        ("throttling", CONFIRMED, [asked("burst", error("isv.FLOW_LIMIT"))]),
        ("throttling", REFUTED, [asked("burst", reply(b"", 429))]),
        ("throttling", REFUTED, [asked("burst", error("SlowDown", 400))]),
        ("throttling", NOT_SEEN, [asked("burst", GONE)]),
        (
            "retry_after",
            CONFIRMED,
            [asked("burst", error("Throttling.User", 400, x_acs_retry_after="700"))],
        ),
        (
            "retry_after",
            REFUTED,
            [asked("burst", error("Throttling.User", 400, x_acs_retry_after="soon"))],
        ),
        ("retry_after", NOT_SEEN, [asked("burst", error("Throttling.User", 400))]),
        (
            "call_detail",
            CONFIRMED,
            [asked("call_detail", reply({"Code": "OK", "Data": ""}), action="QueryCallDetailByCallId")],
        ),
        ("call_detail", REFUTED, [asked("call_detail", DELISTED, action="QueryCallDetailByCallId")]),
    ],
)
def test_a_reply_confirms_or_refutes(name: str, verdict: ContactVerdict, calls: list[AskedCall]) -> None:
    found = seen(name, *calls)
    assert found[0] is verdict, found
    assert found[1]
    for number in (BINDING.number_x, BINDING.number_a, BINDING.subs_id, "17100000001"):
        assert number not in found[1]


def test_a_rate_that_latency_prevented_is_reported_as_it_was() -> None:
    found = seen("rate", *paced(16, 12.0), *burst(14, 0))
    assert found == (
        NOT_SEEN,
        "16 calls at 12.0 a second, none throttled; of 14 at once none: 20 a second were not reached",
    )
    assert seen("rate", *paced(16, 8.0), *burst(5, 39))[1].endswith("no more than 12 within a second")


NUMBERLESS = answer(3, None)
THROTTLED = error("Throttling.User", 400)


@pytest.mark.parametrize(
    ("name", "calls", "found"),
    [
        ("request_id", [LIVE, asked("burst", THROTTLED)], "all 2 replies have it"),
        ("request_id", [LIVE, asked("burst", reply(b"", 429))], "1 of 2 replies lacks it: HTTP 429 http_429"),
        ("call_no_optional", [asked("live", DELISTED)], "QueryCallStatus is not served"),
        ("rate", [LIVE, asked("live", THROTTLED)], "1 of 2 calls at no more than 20 a second was throttled"),
        (
            "call_no_a",
            [asked("live", NUMBERLESS), asked("call_no_a", NUMBERLESS, call_no="a")],
            "Status 3 and no number, as without it",
        ),
        ("status_1", [asked("live", answer(1, "17000000009"))], "1 of 1 differs from X"),
    ],
)
def test_a_finding_is_worded_by_what_was_seen(name: str, calls: list[AskedCall], found: str) -> None:
    assert seen(name, *calls)[1] == found


def test_an_unprobed_assumption_has_a_reason() -> None:
    assert seen("expired", expired="no calls left") == (NOT_SEEN, "no calls left")


def test_a_repeated_call_counts_by_its_last_reply() -> None:
    throttled = asked("expired", error("Throttling.User", 400))
    assert seen("expired", throttled, asked("expired", answer(4, None)))[0] is CONFIRMED


def test_a_missing_credential_is_not_a_reply() -> None:
    call = asked("live", RawReply(0.0, failure=trouble(TransportTrouble.NO_CREDENTIAL)))
    assert isinstance(call.read, NonAnswer)
    assert not call.has_reply
    assert not call.is_business


# -- what a binding is expected to be ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("label", "expires_at", "kind"),
    [
        ("", None, SubjectKind.LIVE),
        ("", 2000.0, SubjectKind.LIVE),
        ("", 999.0, SubjectKind.EXPIRED),
        ("unbound", 999.0, SubjectKind.UNBOUND),
        ("live", 999.0, SubjectKind.LIVE),
    ],
)
def test_the_kind_of_a_binding(label: str, expires_at: float | None, kind: SubjectKind) -> None:
    labels = (("contact", label),) if label else ()
    given = Binding("1", "FC1", "17000000001", "13800000001", expires_at=expires_at, labels=labels)
    assert kind_of(given, 1000.0) is kind


def test_an_unknown_label_is_refused() -> None:
    with pytest.raises(ValueError, match="live, expired or unbound"):
        kind_of(Binding("1", "FC1", "1", "2", labels=(("contact", "unknown"),)), 0.0)
