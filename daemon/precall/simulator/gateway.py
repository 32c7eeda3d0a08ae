"""The gateway in front of every action: authenticate a request and reject replays and unknown actions.

Checks run in the order of the real gateway: access key, timestamp, nonce, signature, action, version. Quotas,
parameters and business logic follow in service.py. There is no I/O here, and time is an argument.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from urllib.parse import parse_qsl

from precall.simulator.scenario import (
    QUERY_CALL_DETAIL,
    QUERY_CALL_STATUS,
    QUERY_NUMBER_DETAIL,
    QUERY_QUEUE_TOKEN,
    QUERY_SUBSCRIPTION_DETAIL,
    Account,
)
from precall.simulator.signature import (
    acs3_canonical_request,
    acs3_signature,
    rpc_signature,
    rpc_string_to_sign,
    same,
)

API_VERSION = "2017-05-25"
CLOCK_WINDOW = 15 * 60.0
NONCES_KEPT = 1_000_000
ACTIONS = (
    QUERY_CALL_STATUS,
    QUERY_CALL_DETAIL,
    QUERY_SUBSCRIPTION_DETAIL,
    QUERY_NUMBER_DETAIL,
    QUERY_QUEUE_TOKEN,
)
_AUTHORIZATION = re.compile(
    r"ACS3-HMAC-SHA256\s+Credential=([^,]+),\s*SignedHeaders=([^,]+),\s*Signature=([0-9a-fA-F]+)"
)
_TIMESTAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")


@dataclass(frozen=True, slots=True)
class Envelope:
    """A request as received: the raw query string, and all header values by lower-case name."""

    method: str
    query: str
    headers: Mapping[str, Sequence[str]]
    body: bytes = b""

    def header(self, name: str) -> str:
        values = self.headers.get(name)
        return values[0].strip() if values else ""

    @property
    def is_form(self) -> bool:
        return self.header("content-type").lower().startswith("application/x-www-form-urlencoded")


@dataclass(frozen=True, slots=True)
class CalledAction:
    """An authenticated call. `signature` is `acs3` or `rpc`."""

    action: str
    parameters: Mapping[str, str]
    version: str = API_VERSION
    signature: str = "acs3"


class RefusalError(Exception):
    """The gateway refuses a request with a code, a message and an HTTP status."""

    def __init__(self, code: str, message: str, http_status: int = 400) -> None:
        super().__init__(code)
        self.code = code
        self.message = message
        self.http_status = http_status


@dataclass(frozen=True, slots=True)
class _Claims:
    """What a request claims, before anything is verified."""

    access_key_id: str
    security_token: str
    timestamp: str
    nonce: str
    signature: str
    signed_text: str
    sign: Callable[[str, str], str]
    action: str
    version: str
    parameters: Mapping[str, str]


@dataclass(slots=True)
class NonceMemory:
    """Nonces of the last 15 minutes, at most `capacity` of them."""

    capacity: int = NONCES_KEPT
    _seen: dict[str, float] = field(default_factory=dict)

    def knows(self, nonce: str, now: float) -> bool:
        seen_at = self._seen.get(nonce)
        return seen_at is not None and now - seen_at <= CLOCK_WINDOW

    def remember(self, nonce: str, now: float) -> None:
        self._seen.pop(nonce, None)
        self._seen[nonce] = now
        oldest = next(iter(self._seen))
        while len(self._seen) > self.capacity or now - self._seen[oldest] > CLOCK_WINDOW:
            del self._seen[oldest]
            oldest = next(iter(self._seen))


class Gateway:
    """Admit or refuse requests for one account."""

    def __init__(
        self, account: Account, delisted: Sequence[str] = (), delisted_code: str = "InvalidApi.NotFound"
    ) -> None:
        self.account = account
        self.delisted: dict[str, str] = dict.fromkeys(delisted, delisted_code)
        self._nonces = NonceMemory()
        self._former_tokens: set[str] = set()

    def change_account(self, account: Account) -> None:
        """Apply new keys and quotas at once. A security token that is replaced counts as expired from now on."""
        if self.account.security_token not in ("", account.security_token):
            self._former_tokens.add(self.account.security_token)
        self._former_tokens.discard(account.security_token)
        self.account = account

    def admit(self, envelope: Envelope, now: float) -> CalledAction:
        """Authenticate a request for a known action. Raises RefusalError. `now` is in Unix seconds."""
        called = self.authenticate(envelope, now)
        self.check_action(called)
        return called

    def authenticate(self, envelope: Envelope, now: float) -> CalledAction:
        """Check key, time, nonce and signature, for any action. Raises RefusalError. `now` is in Unix seconds."""
        signature = "acs3" if envelope.header("authorization") else "rpc"
        claim = _read_acs3(envelope) if signature == "acs3" else _read_rpc(envelope)
        self._check_keys(claim)
        _check_timestamp(claim.timestamp, now)
        if not claim.nonce:
            raise _missing("SignatureNonce")
        if self._nonces.knows(claim.nonce, now):
            raise RefusalError("SignatureNonceUsed", "Specified signature nonce was used already.")
        if not same(claim.signature, claim.sign(self.account.access_key_secret, claim.signed_text)):
            # The real gateway quotes the request like this, numbers and all: callers must not log messages blindly.
            raise RefusalError(
                "SignatureDoesNotMatch",
                "Specified signature is not matched with our calculation. "
                f"server string to sign is:{claim.signed_text}",
            )
        self._nonces.remember(claim.nonce, now)
        return CalledAction(claim.action, claim.parameters, claim.version, signature)

    def _check_keys(self, claim: _Claims) -> None:
        if not claim.access_key_id:
            raise _missing("AccessKeyId")
        if claim.access_key_id != self.account.access_key_id:
            raise RefusalError("InvalidAccessKeyId.NotFound", "Specified access key is not found.", 404)
        if claim.security_token == self.account.security_token:
            return
        if not claim.security_token:
            raise _missing("SecurityToken")
        if claim.security_token in self._former_tokens:
            raise RefusalError("InvalidSecurityToken.Expired", "Specified SecurityToken is expired.")
        raise RefusalError("InvalidSecurityToken.Malformed", "Specified SecurityToken is malformed.")

    def check_action(self, called: CalledAction) -> None:
        """Raises RefusalError for an action or version that is not served."""
        if not called.action:
            raise _missing("Action")
        if called.action not in ACTIONS or called.action in self.delisted:
            code = self.delisted.get(called.action, "InvalidAction.NotFound")
            raise RefusalError(code, "Specified api is not found, please check your url and method.", 404)
        if not called.version:
            raise _missing("Version")
        if called.version != API_VERSION:
            raise RefusalError("InvalidVersion", "Specified parameter Version is not valid.")


def reply_format(envelope: Envelope) -> str:
    """Return `json` or `xml`: by the parameter Format, else the Accept header, else the old default XML."""
    for name, value in _decode(envelope.query) + (_decode(envelope.body) if envelope.is_form else []):
        if name == "Format":
            return "json" if value.lower() == "json" else "xml"
    return "json" if "json" in envelope.header("accept").lower() else "xml"


def action_hint(envelope: Envelope) -> str:
    """Return the action a request names, for the layout of a refusal; "" if it names none."""
    found = re.search(r"(?:^|&)Action=(\w+)", envelope.query)
    return envelope.header("x-acs-action") or (found[1] if found else "")


def _read_rpc(envelope: Envelope) -> _Claims:
    pairs = _decode(envelope.query) + (_decode(envelope.body) if envelope.is_form else [])
    given = dict(pairs)
    if given.get("AccessKeyId"):
        for name, value in (("SignatureMethod", "HMAC-SHA1"), ("SignatureVersion", "1.0")):
            if not given.get(name):
                raise _missing(name)
            if given[name] != value:
                raise RefusalError(f"Invalid{name}", f"Specified parameter {name} is not valid.")
        if not given.get("Signature"):
            raise _missing("Signature")
    return _Claims(
        access_key_id=given.get("AccessKeyId", ""),
        security_token=given.get("SecurityToken", ""),
        timestamp=given.get("Timestamp", ""),
        nonce=given.get("SignatureNonce", ""),
        signature=given.get("Signature", ""),
        signed_text=rpc_string_to_sign(envelope.method, pairs),
        sign=rpc_signature,
        action=given.get("Action", ""),
        version=given.get("Version", ""),
        parameters=given,
    )


def _read_acs3(envelope: Envelope) -> _Claims:
    matched = _AUTHORIZATION.fullmatch(envelope.header("authorization"))
    if matched is None:
        raise RefusalError(
            "IncompleteSignature", "The request signature does not conform to platform standards."
        )
    access_key_id, listed, signature = matched.groups()
    signed = listed.split(";")
    content_type = {"content-type"} if envelope.body else set()
    present = {
        name
        for name in envelope.headers
        if name.startswith("x-acs-") or name == "host" or name in content_type
    }
    required = {
        "host",
        "x-acs-action",
        "x-acs-version",
        "x-acs-date",
        "x-acs-signature-nonce",
        "x-acs-content-sha256",
    }
    unsigned = sorted((present | required) - set(signed))
    if unsigned or signed != sorted(signed):
        raise RefusalError(
            "IncompleteSignature", f"Signed headers are incomplete or unsorted: {';'.join(unsigned)}"
        )
    query = _decode(envelope.query)
    # Hash the body rather than trust the header, so that a changed body fails verification.
    content_sha256 = hashlib.sha256(envelope.body).hexdigest()
    return _Claims(
        access_key_id=access_key_id,
        security_token=envelope.header("x-acs-security-token"),
        timestamp=envelope.header("x-acs-date"),
        nonce=envelope.header("x-acs-signature-nonce"),
        signature=signature,
        signed_text=acs3_canonical_request(envelope.method, query, envelope.headers, signed, content_sha256),
        sign=acs3_signature,
        action=envelope.header("x-acs-action"),
        version=envelope.header("x-acs-version"),
        parameters=dict(query + (_decode(envelope.body) if envelope.is_form else [])),
    )


def _check_timestamp(timestamp: str, now: float) -> None:
    if not timestamp:
        raise _missing("Timestamp")
    malformed = RefusalError(
        "InvalidTimeStamp.Format", "Specified time stamp or date value is not well formatted."
    )
    if _TIMESTAMP.fullmatch(timestamp) is None:
        raise malformed
    try:
        sent_at = datetime.fromisoformat(timestamp).timestamp()
    except ValueError:
        raise malformed from None
    if abs(now - sent_at) > CLOCK_WINDOW:
        raise RefusalError("InvalidTimeStamp.Expired", "Specified time stamp or date value is expired.")


def _missing(parameter: str) -> RefusalError:
    return RefusalError(f"Missing{parameter}", f"{parameter} is mandatory for this action.")


def _decode(encoded: str | bytes) -> list[tuple[str, str]]:
    text = encoded if isinstance(encoded, str) else encoded.decode("utf-8", "replace")
    return parse_qsl(text, keep_blank_values=True)
