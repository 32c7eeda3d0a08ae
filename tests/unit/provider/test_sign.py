import json
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import pytest

from precall.provider.sign import (
    Acs3Signer,
    Credential,
    RpcSigner,
    encoded_pairs,
    rpc_key,
    rpc_signature,
    signer,
)

DATA = json.loads((Path(__file__).parents[2] / "data" / "signing_vectors.json").read_text(encoding="utf-8"))
VECTORS = {vector["id"]: vector for vector in DATA["vectors"]}
NONCE, TIMESTAMP = DATA["nonce"], DATA["timestamp"]


def named(scheme: str) -> list[str]:
    return [name for name, vector in VECTORS.items() if vector["scheme"] == scheme]


def credential(vector: dict[str, Any]) -> Credential:
    return Credential(DATA["access_key_id"], DATA["access_key_secret"], vector["security_token"] or "")


def test_every_vector_is_tested() -> None:
    assert len(named("rpc-hmac-sha1")) == 6
    assert len(named("acs3-hmac-sha256")) == 4
    assert len(VECTORS) == 10


@pytest.mark.parametrize("name", named("acs3-hmac-sha256"))
def test_acs3_vectors(name: str) -> None:
    vector = VECTORS[name]
    made = Acs3Signer(vector["host"], vector["action"], credential(vector))
    for _ in range(2):  # what was precomputed is not used up
        signed = made.sign(vector["params"], TIMESTAMP, NONCE)
        assert signed.headers["Authorization"].rpartition("Signature=")[2] == vector["signature"]
    assert dict(parse_qsl(signed.query)) == vector["params"]
    assert signed.body is None


@pytest.mark.parametrize(
    "name", [name for name in named("rpc-hmac-sha1") if VECTORS[name]["method"] == "POST"]
)
def test_rpc_vectors(name: str) -> None:
    vector = VECTORS[name]
    made = RpcSigner(vector["action"], credential(vector), vector["format"])
    for _ in range(2):
        signed = made.sign(vector["params"], TIMESTAMP, NONCE)
        assert dict(parse_qsl(signed.query))["Signature"] == vector["signature"]
    assert dict(parse_qsl((signed.body or b"").decode())) == vector["params"]


@pytest.mark.parametrize("name", named("rpc-hmac-sha1"))
def test_rpc_vectors_of_either_method(name: str) -> None:
    vector = VECTORS[name]
    common = {
        "AccessKeyId": DATA["access_key_id"],
        "Action": vector["action"],
        "Format": vector["format"],
        "SignatureMethod": "HMAC-SHA1",
        "SignatureNonce": NONCE,
        "SignatureVersion": "1.0",
        "Timestamp": TIMESTAMP,
        "Version": DATA["version"],
    }
    if vector["security_token"]:
        common["SecurityToken"] = vector["security_token"]
    pairs = encoded_pairs(common | vector["params"])
    assert rpc_signature(rpc_key(credential(vector)), vector["method"], pairs) == vector["signature"]


def test_percent_encoding_follows_rfc_3986() -> None:
    pairs = encoded_pairs({"b": "a b*c~d/e+f=号", "a": "-_.~", "c": ""})
    assert pairs == ["a=-_.~", "b=a%20b%2Ac~d%2Fe%2Bf%3D%E5%8F%B7", "c="]


def test_the_rpc_query_string_does_not_identify_the_binding() -> None:
    made = signer("rpc", "host", "QueryCallStatus", Credential("id", "secret"))
    signed = made.sign({"SubsId": "1000000768798832", "CallNo": "13800000000"}, TIMESTAMP, NONCE)
    assert "1000000768798832" not in signed.query
    assert "13800000000" not in signed.query


def test_each_scheme_requests_the_format_in_its_way() -> None:
    key = Credential("id", "secret")
    assert (
        signer("acs3", "h", "A", key, "xml").sign({}, TIMESTAMP, NONCE).headers["Accept"] == "application/xml"
    )
    assert "Format=XML&" in signer("rpc", "h", "A", key, "xml").sign({}, TIMESTAMP, NONCE).query


def test_text_without_a_utf_8_form_is_a_value_error() -> None:
    for scheme in ("acs3", "rpc"):
        with pytest.raises(ValueError, match="surrogates"):
            signer(scheme, "h", "A", Credential("id", "secret")).sign({"SubsId": "\ud800"}, TIMESTAMP, NONCE)


@pytest.mark.parametrize(
    "made", [("", "s"), ("id", ""), ("id", "s\n"), ("i d", "s"), ("id", "s", "to\r\nken")]
)
def test_a_key_that_no_header_can_carry_is_refused_without_repeating_it(made: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="access key or token") as caught:
        Credential(*made)
    assert "ken" not in str(caught.value).replace("token", "")


def test_repr_shows_no_secret() -> None:
    key = Credential("LTAIexample", "very-secret", "the-token")
    signed = signer("acs3", "h", "A", key).sign({"SubsId": "1000000768798832"}, TIMESTAMP, NONCE)
    shown = f"{key!r} {key} {signed!r}"
    for hidden in ("LTAIexample", "very-secret", "the-token", "1000000768798832", "Signature="):
        assert hidden not in shown
