import json
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from precall.simulator.gateway import Envelope, Gateway, NonceMemory, RefusalError
from precall.simulator.scenario import Account
from tests.support.signed_requests import acs3_envelope, rpc_envelope

NOW = 1_704_164_645.0
STATUS = {"SubsId": "1000000768798832", "PoolKey": "FC123456"}
VECTORS = json.loads(
    (Path(__file__).parents[2] / "data" / "signing_vectors.json").read_text(encoding="utf-8")
)

Signer = Callable[..., Envelope]
both_signers = pytest.mark.parametrize("sign", [rpc_envelope, acs3_envelope])


def refusal(envelope: Envelope, gateway: Gateway | None = None, now: float = NOW) -> RefusalError:
    with pytest.raises(RefusalError) as caught:
        (gateway or Gateway(Account())).admit(envelope, now)
    return caught.value


def changed(envelope: Envelope, **headers: str) -> Envelope:
    return replace(
        envelope, headers={**envelope.headers, **{name: [value] for name, value in headers.items()}}
    )


def vector_envelope(vector: dict[str, Any]) -> Envelope:
    when = datetime.fromisoformat(VECTORS["timestamp"]).timestamp()
    key = (VECTORS["access_key_id"], VECTORS["access_key_secret"])
    common = {"action": vector["action"], "key": key, "method": vector["method"]}
    token = vector["security_token"]
    if vector["scheme"] == "rpc-hmac-sha1":
        return rpc_envelope(
            vector["params"],
            when,
            **common,
            SignatureNonce=VECTORS["nonce"],
            Format=vector["format"],
            SecurityToken=token,
            Signature=vector["signature"],
        )
    envelope = acs3_envelope(
        vector["params"],
        when,
        **common,
        host=vector["host"],
        **{"x-acs-signature-nonce": VECTORS["nonce"], "x-acs-security-token": token},
    )
    listed = envelope.header("authorization").rpartition("Signature=")[0]
    return changed(envelope, authorization=f"{listed}Signature={vector['signature']}")


def vector_gateway(vector: dict[str, Any]) -> Gateway:
    return Gateway(
        Account(
            access_key_id=VECTORS["access_key_id"],
            access_key_secret=VECTORS["access_key_secret"],
            security_token=vector["security_token"] or "",
        )
    )


@pytest.mark.parametrize("vector", VECTORS["vectors"], ids=lambda vector: vector["id"])
def test_every_published_vector_is_accepted_and_every_forgery_refused(vector: dict[str, Any]) -> None:
    when = datetime.fromisoformat(VECTORS["timestamp"]).timestamp()
    called = vector_gateway(vector).admit(vector_envelope(vector), when)
    assert called.action == vector["action"]
    assert {name: called.parameters[name] for name in vector["params"]} == vector["params"]

    gateway = vector_gateway(vector)
    for position, character in enumerate(vector["signature"].rstrip("=")):
        forged = vector["signature"][:position] + ("a" if character != "a" else "b")
        forged += vector["signature"][position + 1 :]
        error = refusal(vector_envelope({**vector, "signature": forged}), gateway, when)
        assert error.code == "SignatureDoesNotMatch"
    for name, value in vector["params"].items():
        tampered = {**vector, "params": {**vector["params"], name: value + "0"}}
        assert refusal(vector_envelope(tampered), gateway, when).code == "SignatureDoesNotMatch"


text = st.text(st.characters(exclude_categories=("Cs",)), max_size=12)


@given(subs_id=text, call_no=text, form=st.booleans(), method=st.sampled_from(["GET", "POST"]))
def test_any_text_verifies_under_both_schemes(subs_id: str, call_no: str, form: bool, method: str) -> None:
    parameters = {"SubsId": subs_id, "PoolKey": "FC 1*2~3", "CallNo": call_no}
    in_body = ("SubsId", "CallNo") if form else ()
    for envelope in (
        rpc_envelope(parameters, NOW, form=in_body, method=method),
        acs3_envelope(parameters, NOW),
    ):
        received = Gateway(Account()).admit(envelope, NOW).parameters
        assert {name: received[name] for name in parameters} == parameters


@both_signers
def test_wrong_secret_unknown_key_and_missing_key(sign: Signer) -> None:
    assert refusal(sign(STATUS, NOW, key=("demo", "wrong"))).code == "SignatureDoesNotMatch"
    unknown = refusal(sign(STATUS, NOW, key=("nobody", "demo-secret")))
    assert (unknown.code, unknown.http_status) == ("InvalidAccessKeyId.NotFound", 404)
    assert refusal(Envelope("POST", "SubsId=1", {})).code == "MissingAccessKeyId"


@both_signers
def test_the_clock_window_is_fifteen_minutes_either_way(sign: Signer) -> None:
    for skew in (-900, 900):
        assert Gateway(Account()).admit(sign(STATUS, NOW + skew), NOW).action == "QueryCallStatus"
    for skew in (-901, 901):
        assert refusal(sign(STATUS, NOW + skew)).code == "InvalidTimeStamp.Expired"


@pytest.mark.parametrize(
    "stamp", ["2024-01-02 03:04:05", "2024-01-02T03:04:05+08:00", "2024-13-02T03:04:05Z", "1704164645"]
)
def test_a_malformed_timestamp_is_told_from_an_expired_one(stamp: str) -> None:
    assert refusal(rpc_envelope(STATUS, NOW, Timestamp=stamp)).code == "InvalidTimeStamp.Format"
    assert refusal(acs3_envelope(STATUS, NOW, x_acs_date=stamp)).code == "InvalidTimeStamp.Format"


@both_signers
def test_a_replayed_request_is_refused_for_fifteen_minutes(sign: Signer) -> None:
    gateway, envelope = Gateway(Account()), sign(STATUS, NOW)
    gateway.admit(envelope, NOW)
    assert refusal(envelope, gateway, NOW + 900).code == "SignatureNonceUsed"


@both_signers
def test_a_forged_request_does_not_burn_the_nonce(sign: Signer) -> None:
    gateway, nonce = (
        Gateway(Account()),
        {"SignatureNonce": "n"} if sign is rpc_envelope else {"x_acs_signature_nonce": "n"},
    )
    assert refusal(sign(STATUS, NOW, key=("demo", "wrong"), **nonce), gateway).code == "SignatureDoesNotMatch"
    assert gateway.admit(sign(STATUS, NOW, **nonce), NOW).action == "QueryCallStatus"


def test_checks_come_in_the_gateways_order() -> None:
    """Each request has every later mistake too; mending the first one shows the next."""
    gateway = Gateway(Account())
    gateway.admit(rpc_envelope(STATUS, NOW, SignatureNonce="used"), NOW)
    mistakes: list[tuple[dict[str, Any], str]] = [
        ({"AccessKeyId": None}, "MissingAccessKeyId"),
        ({"AccessKeyId": "nobody"}, "InvalidAccessKeyId.NotFound"),
        ({"SecurityToken": "x"}, "InvalidSecurityToken.Malformed"),
        ({"Timestamp": None}, "MissingTimestamp"),
        ({"Timestamp": "2001-01-01T00:00:00Z"}, "InvalidTimeStamp.Expired"),
        ({"SignatureNonce": None}, "MissingSignatureNonce"),
        ({"SignatureNonce": "used"}, "SignatureNonceUsed"),
        ({"Signature": "forged"}, "SignatureDoesNotMatch"),
        ({"Action": None}, "MissingAction"),
        ({"Action": "QueryNothing"}, "InvalidAction.NotFound"),
        ({"Version": None}, "MissingVersion"),
        ({"Version": "2018-05-25"}, "InvalidVersion"),
    ]
    for first in range(len(mistakes)):
        common: dict[str, Any] = {}
        for mistake, _ in reversed(mistakes[first:]):
            common |= mistake
        assert refusal(rpc_envelope(STATUS, NOW, **common), gateway).code == mistakes[first][1]


def test_rpc_wants_its_signature_parameters() -> None:
    assert refusal(rpc_envelope(STATUS, NOW, Signature=None)).code == "MissingSignature"
    assert refusal(rpc_envelope(STATUS, NOW, SignatureMethod=None)).code == "MissingSignatureMethod"
    assert refusal(rpc_envelope(STATUS, NOW, SignatureVersion="2.0")).code == "InvalidSignatureVersion"


def test_acs3_wants_every_provider_header_signed() -> None:
    envelope = acs3_envelope(STATUS, NOW)
    assert refusal(changed(envelope, **{"x-acs-extra": "1"})).code == "IncompleteSignature"
    assert refusal(changed(envelope, authorization="Bearer x")).code == "IncompleteSignature"
    assert refusal(acs3_envelope(STATUS, NOW, x_acs_date=None)).code == "IncompleteSignature"
    assert (
        Gateway(Account()).admit(acs3_envelope(STATUS, NOW, x_acs_extra="1"), NOW).action == "QueryCallStatus"
    )


def test_acs3_binds_the_body_and_the_host() -> None:
    signed = acs3_envelope(STATUS, NOW, body=b"a=1", content_type="application/x-www-form-urlencoded")
    assert Gateway(Account()).admit(signed, NOW).parameters["a"] == "1"
    assert refusal(replace(signed, body=b"a=2")).code == "SignatureDoesNotMatch"
    assert refusal(changed(signed, host="elsewhere")).code == "SignatureDoesNotMatch"


def test_a_security_token_must_be_the_current_one() -> None:
    gateway = Gateway(Account(security_token="old"))
    assert refusal(rpc_envelope(STATUS, NOW), gateway).code == "MissingSecurityToken"
    gateway.change_account(Account(security_token="new"))
    assert (
        refusal(acs3_envelope(STATUS, NOW, x_acs_security_token="old"), gateway).code
        == "InvalidSecurityToken.Expired"
    )
    assert (
        refusal(rpc_envelope(STATUS, NOW, SecurityToken="odd"), gateway).code
        == "InvalidSecurityToken.Malformed"
    )
    assert (
        gateway.admit(acs3_envelope(STATUS, NOW, x_acs_security_token="new"), NOW).action == "QueryCallStatus"
    )
    assert gateway.admit(rpc_envelope(STATUS, NOW, SecurityToken="new"), NOW).action == "QueryCallStatus"


def test_a_delisted_action_is_not_found() -> None:
    gateway = Gateway(Account(), delisted=["QueryCallStatus"])
    error = refusal(acs3_envelope(STATUS, NOW), gateway)
    assert (error.code, error.http_status) == ("InvalidApi.NotFound", 404)
    assert gateway.admit(acs3_envelope({}, NOW, action="QueryCallDetailByCallId"), NOW)


def test_the_nonce_memory_is_bounded() -> None:
    memory = NonceMemory(capacity=2)
    for nonce in ("a", "b", "c"):
        memory.remember(nonce, NOW)
    assert [memory.knows(nonce, NOW) for nonce in ("a", "b", "c")] == [False, True, True]
    memory.remember("d", NOW + 901)
    assert not memory.knows("c", NOW + 901)
