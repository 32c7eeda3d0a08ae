import json
from typing import Any

import pytest
from defusedxml.ElementTree import fromstring

from precall.simulator.replies import Reply
from precall.simulator.scenario import Account, Binding, Call, Fault, FaultKind, Pool, Replies, Scenario
from precall.simulator.service import Delivery, Service, Silence
from tests.support.signed_requests import acs3_envelope, rpc_envelope

NOW = 1_767_294_245.0  # 2026-01-02T03:04:05+08:00
MIDNIGHT_MS = 1_767_283_200_000  # 2026-01-02T00:00:00+08:00
DAY_MS = 86_400_000
DETAIL = "QueryCallDetailByCallId"
BINDINGS = (
    Binding(subs_id="1", pool_key="P", number_x="17000000001", extension="12"),
    Binding(subs_id="3", pool_key="P", status=3),
    Binding(subs_id="4", pool_key="P", number_x="17000000000", status=4),
)


def service(**scenario: Any) -> Service:
    return Service(Scenario(**({"bindings": BINDINGS} | scenario)), NOW)


def reply_of(outcome: Delivery | Silence) -> Reply:
    assert isinstance(outcome, Delivery), outcome
    return outcome.reply


def ask(provider: Service, subs_id: str = "1", now: float = NOW, **common: Any) -> Reply:
    return reply_of(provider.handle(rpc_envelope({"SubsId": subs_id, "PoolKey": "P"}, now, **common), now))


def code_of(reply: Reply) -> str:
    code = json.loads(reply.body)["Code"]
    assert isinstance(code, str)
    return code


def detail(
    provider: Service, now: float, query_date: int = MIDNIGHT_MS, prod_id: str = "11000000300006"
) -> str:
    parameters = {"CallId": "c^1", "ProdId": prod_id, "QueryDate": str(query_date)}
    reply = reply_of(provider.handle(acs3_envelope(parameters, now, action=DETAIL), now))
    body = json.loads(reply.body)
    assert list(body) == ["Data", "Message", "RequestId", "Code"]
    assert body["Code"] == "OK"
    data = body["Data"]
    assert isinstance(data, str)
    return data


def test_json_follows_the_page() -> None:
    body = json.loads(ask(service(), "4").body)
    assert list(body) == ["Message", "RequestId", "SecretCallStatusDTO", "Code"]
    assert body["SecretCallStatusDTO"] == {"Status": 4, "CalledNo": "17000000000"}
    assert (body["Code"], body["Message"]) == ("OK", "OK")
    assert len(body["RequestId"]) == 36
    assert body["RequestId"] == body["RequestId"].upper()
    assert json.loads(ask(service(), "1").body)["SecretCallStatusDTO"]["Extension"] == "12"


def test_xml_follows_the_page_and_is_the_default() -> None:
    for provider_reply in (ask(service(), "4", Format=None), ask(service(), "4", Format="XML")):
        assert provider_reply.content_type.startswith("text/xml")
        root = fromstring(provider_reply.body)
        assert root.tag == "QueryCallStatusResponse"
        assert [child.tag for child in root] == ["Message", "RequestId", "SecretCallStatusDTO", "Code"]
        assert [(child.tag, child.text) for child in root[2]] == [
            ("Status", "4"),
            ("CalledNo", "17000000000"),
        ]


def test_format_comes_from_the_parameter_or_the_accept_header() -> None:
    envelope = acs3_envelope({"SubsId": "1", "PoolKey": "P"}, NOW, accept="application/xml")
    assert reply_of(service().handle(envelope, NOW)).content_type.startswith("text/xml")
    envelope = acs3_envelope({"SubsId": "1", "PoolKey": "P"}, NOW, accept="application/json")
    assert reply_of(service().handle(envelope, NOW)).content_type.startswith("application/json")
    assert ask(service(), Format="json").content_type.startswith("application/json")


@pytest.mark.parametrize(
    ("form", "answer"), [("null", {"CalledNo": None}), ("empty", {"CalledNo": ""}), ("missing", {})]
)
def test_no_number_has_three_forms(form: str, answer: dict[str, object]) -> None:
    provider = service(replies={"no_number": form})
    assert json.loads(ask(provider, "3").body)["SecretCallStatusDTO"] == {"Status": 3, **answer}


def test_xml_has_no_element_for_null() -> None:
    root = fromstring(ask(service(), "3", Format="XML").body)
    assert [child.tag for child in root[2]] == ["Status"]


def test_business_errors_come_with_200_or_by_http_status() -> None:
    reply = ask(service(), "unknown")
    assert (reply.http_status, list(json.loads(reply.body))) == (200, ["Message", "RequestId", "Code"])
    assert code_of(reply) == "isv.SUBS_NOT_EXIST"
    strict = service(
        replies=Replies(business_http_errors=True), faults=(Fault(kind=FaultKind.ERROR, subs_id="1"),)
    )
    reply = ask(strict, "unknown")
    assert (reply.http_status, code_of(reply)) == (400, "isv.SUBS_NOT_EXIST")
    assert list(json.loads(reply.body)) == ["Code", "Message", "RequestId", "HostId", "Recommend"]
    reply = ask(strict, "1")
    assert (reply.http_status, code_of(reply)) == (500, "isp.SYSTEM_ERROR")


def test_errors_come_in_xml_too() -> None:
    root = fromstring(ask(service(), key=("demo", "wrong"), Format="XML").body)
    assert root.tag == "Error"
    assert root.findtext("Code") == "SignatureDoesNotMatch"
    assert root.findtext("RequestId")


def test_missing_and_malformed_parameters() -> None:
    provider = service()

    def code(parameters: dict[str, str], action: str = "QueryCallStatus") -> str:
        return code_of(reply_of(provider.handle(acs3_envelope(parameters, NOW, action=action), NOW)))

    call = {"CallId": "c", "ProdId": "1", "QueryDate": "1"}
    assert code({"PoolKey": "P"}) == "MissingSubsId"
    assert code({"SubsId": "1"}) == "MissingPoolKey"
    binding = {"SubsId": "1", "PoolKey": "P"}
    for caller in ("150000000", "13800000001", "+8613800000001", "110"):
        assert code({**binding, "CallNo": caller}) == "OK"
    for caller in ("unknown", "12", "138 0000 0001", "sip:1", "1" * 21):
        assert code({**binding, "CallNo": caller}) == "isv.MOBILE_NUMBER_ILLEGAL"
    assert code({**call, "CallId": ""}, DETAIL) == "MissingCallId"
    assert code({**call, "ProdId": "x"}, DETAIL) == "InvalidProdId"
    assert code({**call, "QueryDate": "1.5"}, DETAIL) == "InvalidQueryDate"
    assert code(call, DETAIL) == "OK"


def test_the_quota_is_a_second_of_calls_that_refills() -> None:
    provider = service(account=Account(rate=5, retry_after=250))
    replies = [ask(provider) for _ in range(7)]
    assert [reply.http_status for reply in replies] == [200] * 5 + [400] * 2
    assert (code_of(replies[6]), replies[6].retry_after) == ("Throttling.User", 250)
    assert [ask(provider, now=NOW + 0.4).http_status for _ in range(3)] == [200, 200, 400]
    assert provider.traffic.calls_received["QueryCallStatus"] == 10
    assert provider.traffic.peak_per_second == 10
    assert len(provider.traffic.received_at) == 10


def test_the_peak_is_that_of_any_second() -> None:
    provider = service()
    for later in (0.0, 0.6, 0.7, 1.2, 1.55, 5.0):
        ask(provider, now=NOW + later)
    assert provider.traffic.peak_per_second == 4  # from 0.6 to 1.55, across a full second of the clock
    assert list(provider.traffic.received_at) == [NOW + later for later in (0.0, 0.6, 0.7, 1.2, 1.55, 5.0)]


def test_the_business_flavour_of_throttling_is_http_200() -> None:
    provider = service(account=Account(rate=1, throttle_code="isv.FLOW_LIMIT"))
    ask(provider)
    reply = ask(provider)
    assert (reply.http_status, code_of(reply), reply.retry_after) == (200, "isv.FLOW_LIMIT", 0)


def test_call_details_have_a_quota_of_their_own_per_minute() -> None:
    provider = service(account=Account(rate=1, call_detail_rate_per_minute=3))
    call = {"CallId": "c", "ProdId": "1", "QueryDate": "1"}

    def code(now: float) -> str:
        return code_of(reply_of(provider.handle(acs3_envelope(call, now, action=DETAIL), now)))

    assert [code(NOW) for _ in range(4)] == ["OK", "OK", "OK", "Throttling.User"]
    assert code_of(ask(provider)) == "OK"
    assert [code(NOW + 20), code(NOW + 20)] == ["OK", "Throttling.User"]


def test_a_refused_request_costs_no_quota_and_counts_as_no_call() -> None:
    provider = service(account=Account(rate=1))
    for _ in range(3):
        assert code_of(ask(provider, key=("demo", "wrong"))) == "SignatureDoesNotMatch"
    assert code_of(ask(provider)) == "OK"
    assert provider.traffic.calls_received.total() == 1
    assert provider.traffic.codes == {"SignatureDoesNotMatch": 3, "OK": 1}


def test_every_fault_of_a_call_does_what_it_says() -> None:
    def struck(kind: FaultKind, **more: Any) -> Delivery | Silence:
        provider = service(faults=(Fault(kind=kind, **more),))
        outcome = provider.handle(rpc_envelope({"SubsId": "1", "PoolKey": "P"}, NOW), NOW)
        assert provider.traffic.faults == {kind.value: 1}
        return outcome

    assert struck(FaultKind.HANG) is Silence.HANG
    assert struck(FaultKind.RESET) is Silence.RESET
    slow = struck(FaultKind.SLOW, delay=1.5)
    assert isinstance(slow, Delivery)
    assert (slow.delay, code_of(slow.reply)) == (1.5, "OK")
    throttled = reply_of(struck(FaultKind.THROTTLE, retry_after=300))
    assert (throttled.http_status, code_of(throttled), throttled.retry_after) == (400, "Throttling.User", 300)
    html = reply_of(struck(FaultKind.HTML))
    assert (html.http_status, html.body[:6]) == (502, b"<html>")
    assert reply_of(struck(FaultKind.EMPTY)).body == b""
    for kind in (FaultKind.TRUNCATED, FaultKind.GARBAGE):
        broken = reply_of(struck(kind))
        assert broken.http_status == 200
        with pytest.raises(ValueError, match=r"Unterminated|Expecting|decode"):
            json.loads(broken.body)


@pytest.mark.parametrize(
    ("fault", "http_status", "code"),
    [
        ({}, 200, "isp.SYSTEM_ERROR"),
        ({"code": "ServiceUnavailable"}, 503, "ServiceUnavailable"),
        ({"code": "isv.OUT_OF_SERVICE", "http_status": 400}, 400, "isv.OUT_OF_SERVICE"),
        ({"code": "InvalidAction.NotFound"}, 404, "InvalidAction.NotFound"),
        ({"code": "Throttling"}, 400, "Throttling"),
        ({"code": "OK"}, 200, "OK"),
    ],
)
def test_an_error_fault_takes_any_code(fault: dict[str, Any], http_status: int, code: str) -> None:
    reply = ask(service(faults=(Fault(kind=FaultKind.ERROR, **fault),)))
    assert (reply.http_status, code_of(reply)) == (http_status, code)
    assert "SecretCallStatusDTO" not in json.loads(reply.body)


def test_an_error_fault_can_answer_xml_to_one_who_asked_for_json() -> None:
    reply = ask(
        service(faults=(Fault(kind=FaultKind.ERROR, code="InternalError", message="<no>", format="xml"),))
    )
    assert (reply.http_status, reply.content_type) == (500, "text/xml;charset=utf-8")
    assert fromstring(reply.body).findtext("Message") == "<no>"


@pytest.mark.slow(seconds=1)
def test_faults_keep_to_their_time_pool_action_and_share() -> None:
    fault = Fault(kind=FaultKind.HTML, at=10, for_=5, pool_key="P", action="QueryCallStatus", share=0.3)
    provider = service(faults=(fault,), pools=(Pool(pool_key="Q", bindings=1, onset=0),))

    def hits(now: float) -> int:
        return sum(ask(provider, now=now).code == "html" for _ in range(400))

    assert (hits(NOW + 9.9), hits(NOW + 15)) == (0, 0)
    assert 80 < hits(NOW + 12) < 160
    elsewhere = rpc_envelope({"SubsId": "1000000000000001", "PoolKey": "Q"}, NOW + 12)
    assert code_of(reply_of(provider.handle(elsewhere, NOW + 12))) == "OK"
    details = acs3_envelope({"CallId": "c", "ProdId": "1", "QueryDate": "1"}, NOW + 12, action=DETAIL)
    provider.faults.clear()
    assert hits(NOW + 12) == 0
    provider.faults.add(Fault(kind=FaultKind.HTML, action="QueryCallStatus"), NOW)
    assert reply_of(provider.handle(details, NOW + 12)).code == "OK"


def test_a_call_detail_appears_late_and_passes_through_states() -> None:
    provider = service(calls=(Call(call_id="c^1", called_at=NOW, duration=30, after=4),))
    assert detail(provider, NOW + 3.9) == ""
    states = [json.loads(detail(provider, NOW + later))["state"] for later in (5, 15, 25, 39, 40)]
    assert states == ["200101", "200201", "200102", "200103", "200000"]
    assert json.loads(detail(provider, NOW + 39))["duration"] == 0
    final = json.loads(detail(provider, NOW + 40))
    assert list(final) == [
        "caller",
        "startDate",
        "stateDesc",
        "duration",
        "callerShowNumber",
        "gmtCreate",
        "state",
        "endDate",
        "calleeShowNumber",
        "callee",
    ]
    assert (final["duration"], final["gmtCreate"]) == (30, "2026-01-02 03:04:05")
    assert (final["startDate"], final["endDate"]) == ("2026-01-02 03:04:15", "2026-01-02 03:04:45")


def test_the_promised_call_is_empty_until_after_and_then_final() -> None:
    provider = service(calls=(Call(call_id="c^1", called_at=NOW, duration=31),))
    assert detail(provider, NOW + 179) == ""
    assert json.loads(detail(provider, NOW + 180))["state"] == "200000"


def test_a_call_detail_wants_the_right_day_and_product() -> None:
    provider = service(calls=(Call(call_id="c^1", called_at=NOW, after=0),))
    now = NOW + 60
    assert detail(provider, now)
    assert detail(provider, now, MIDNIGHT_MS + DAY_MS - 1)
    assert detail(provider, now, MIDNIGHT_MS - 1) == ""
    assert detail(provider, now, MIDNIGHT_MS + DAY_MS) == ""
    assert detail(provider, now, MIDNIGHT_MS // 1000) == ""
    assert detail(provider, now, prod_id="11000000300005") == ""


def test_the_newer_meaning_of_query_date_covers_the_next_day_only() -> None:
    provider = service(
        calls=(Call(call_id="c^1", called_at=NOW, after=0),), replies=Replies(query_date="next_24h")
    )
    assert detail(provider, NOW + 60)
    assert detail(provider, NOW + 60, int(NOW * 1000) + 1) == ""


def test_an_unconnected_call_has_empty_dates_and_fields_can_be_left_out() -> None:
    call = Call(call_id="c^1", called_at=NOW, after=0, state="502", omit=("endDate", "callee"))
    final = json.loads(detail(service(calls=(call,)), NOW + 60))
    assert (final["startDate"], final["duration"], final["state"], final["stateDesc"]) == (
        "",
        0,
        "502",
        "502",
    )
    assert {"endDate", "callee"}.isdisjoint(final)


def test_full_width_quotes_are_those_of_the_page() -> None:
    provider = service(
        calls=(Call(call_id="c^1", called_at=NOW, after=0),), replies=Replies(full_width_quotes=True)
    )
    assert detail(provider, NOW + 60).startswith("{”caller”:”")


def test_an_empty_detail_in_xml_is_an_empty_element() -> None:
    parameters = {"CallId": "c^1", "ProdId": "1", "QueryDate": "1"}
    reply = reply_of(service().handle(rpc_envelope(parameters, NOW, action=DETAIL, Format="XML"), NOW))
    root = fromstring(reply.body)
    assert (root.tag, [child.tag for child in root]) == (
        "QueryCallDetailByCallIdResponse",
        ["Code", "Data", "Message", "RequestId"],
    )
    assert not root.findtext("Data")


def substitute(provider: Service, action: str, now: float = NOW, **parameters: str) -> dict[str, Any]:
    envelope = acs3_envelope({"PoolKey": "P"} | parameters, now, action=action)
    body: dict[str, Any] = json.loads(reply_of(provider.handle(envelope, now)).body)
    return body


def test_a_subscription_is_in_effect_until_it_ends() -> None:
    provider = service(bindings=(*BINDINGS, Binding(subs_id="5", pool_key="P", expires_at=NOW + 10)))

    def detail(subs_id: str, now: float = NOW, number_x: str = "") -> dict[str, Any]:
        binding = provider.world.find(subs_id)
        wanted = number_x or (binding.number_x if binding else "17000000001")
        return substitute(provider, "QuerySubscriptionDetail", now, SubsId=subs_id, PhoneNoX=wanted)

    body = detail("1")
    assert list(body) == ["Message", "RequestId", "SecretBindDetailDTO", "Code"]
    dto = body["SecretBindDetailDTO"]
    assert (dto["Status"], dto["SubsId"], dto["PhoneNoX"]) == (1, "1", "17000000001")
    assert (dto["Extension"], dto["ExpireDate"]) == ("12", None)
    assert detail("3")["SecretBindDetailDTO"]["Status"] == 1, "a failing X is still bound"
    assert detail("4")["SecretBindDetailDTO"]["Status"] == 0
    assert detail("5")["SecretBindDetailDTO"]["ExpireDate"] == "2026-01-02 03:04:15"
    assert detail("5", NOW + 10)["SecretBindDetailDTO"]["Status"] == 0
    assert detail("9")["Code"] == "isv.SUBS_NOT_EXIST"
    assert detail("1", number_x="17000000009")["Code"] == "isv.SUBS_NOT_EXIST"
    other = substitute(provider, "QuerySubscriptionDetail", SubsId="1", PhoneNoX="17000000001", PoolKey="Q")
    assert other["Code"] == "isv.POOLKEY_NOT_EXISTS"
    assert substitute(provider, "QuerySubscriptionDetail", SubsId="1")["Code"] == "MissingPhoneNoX"


def test_a_number_x_stands_as_its_bindings_do_or_as_scripted() -> None:
    provider = service(
        pools=(Pool(pool_key="Q", bindings=3, onset=0, lifetime=0),),
        bindings=(
            *BINDINGS,
            Binding(subs_id="6", pool_key="P", number_x="17000000006", secret_status=2),
            Binding(subs_id="7", pool_key="P", number_x="17000000000"),
        ),
    )

    def secret_status(number_x: str, pool_key: str = "P") -> object:
        body = substitute(provider, "QuerySecretNoDetail", SecretNo=number_x, PoolKey=pool_key)
        return body["SecretNoInfoDTO"]["SecretStatus"] if body["Code"] == "OK" else body["Code"]

    third = provider.world.find("3")
    assert third is not None
    assert (secret_status("17000000001"), secret_status(third.number_x), secret_status("17000000006")) == (
        1,
        3,
        2,
    )
    assert secret_status("17000000000") == 1, "one of its two bindings is in effect"
    provider.world.change("7", {}, {"status": 4})
    assert secret_status("17000000000") == 0
    assert secret_status("17099999999") == "isv.NO_NOT_EXIST"
    assert secret_status("17000000001", "R") == "isv.POOLKEY_NOT_EXISTS"
    for binding in provider.world.bindings():
        if binding.pool_key == "Q":
            assert secret_status(binding.number_x, "Q") == 1
            assert secret_status(binding.number_x) == "isv.NO_NOT_EXIST"
    provider.world.change("1", {"number_x": "17000000011"}, {})
    assert (secret_status("17000000001"), secret_status("17000000011")) == ("isv.NO_NOT_EXIST", 1)
