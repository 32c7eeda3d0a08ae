"""Requests to the simulator, signed by the provider's official library rather than by precall."""

import hashlib
import uuid
from datetime import UTC, datetime
from urllib.parse import quote, urlencode

from alibabacloud_tea_openapi.utils import Utils
from darabonba.request import DaraRequest

from precall.simulator.gateway import Envelope

VERSION = "2017-05-25"


def rpc_envelope(
    parameters: dict[str, str],
    now: float,
    *,
    action: str = "QueryCallStatus",
    key: tuple[str, str] = ("demo", "demo-secret"),
    method: str = "POST",
    form: tuple[str, ...] = (),
    **common: str | None,
) -> Envelope:
    """Return a request signed with HMAC-SHA1.

    Parameters named in `form` are sent in the body. A `common` parameter of None is left out.
    """
    given: dict[str, str | None] = {
        "Action": action,
        "Version": VERSION,
        "Format": "JSON",
        "AccessKeyId": key[0],
        "SignatureMethod": "HMAC-SHA1",
        "SignatureVersion": "1.0",
        "SignatureNonce": uuid.uuid4().hex,
        "Timestamp": stamp(now),
        **parameters,
        **common,
    }
    signed = {name: value for name, value in given.items() if value is not None}
    if "Signature" not in common:
        signed["Signature"] = Utils.get_rpcsignature(signed, method, key[1])
    query = {name: value for name, value in signed.items() if name not in form}
    body = urlencode({name: signed[name] for name in form}).encode()
    headers = {"host": ["127.0.0.1"]}
    if form:
        headers["content-type"] = ["application/x-www-form-urlencoded"]
    return Envelope(method, urlencode(query), headers, body)


def acs3_envelope(
    parameters: dict[str, str],
    now: float,
    *,
    action: str = "QueryCallStatus",
    key: tuple[str, str] = ("demo", "demo-secret"),
    host: str = "127.0.0.1",
    method: str = "POST",
    body: bytes = b"",
    accept: str = "application/json",
    **extra: str | None,
) -> Envelope:
    """Return a request signed with ACS3-HMAC-SHA256.

    `extra` sets headers, with underscores for dashes; None leaves a header out.
    """
    request = DaraRequest()
    request.method, request.pathname, request.query = method, "/", dict(parameters)
    given: dict[str, str | None] = {
        "host": host,
        "x-acs-action": action,
        "x-acs-version": VERSION,
        "x-acs-date": stamp(now),
        "x-acs-signature-nonce": uuid.uuid4().hex,
        "x-acs-content-sha256": hashlib.sha256(body).hexdigest(),
        **{name.replace("_", "-"): value for name, value in extra.items()},
    }
    request.headers = {name: value for name, value in given.items() if value is not None}
    digest = hashlib.sha256(body).hexdigest()
    authorization = Utils.get_authorization(request, "ACS3-HMAC-SHA256", digest, key[0], key[1])
    headers = {name: [value] for name, value in request.headers.items()}
    headers |= {"authorization": [authorization], "accept": [accept]}
    query = "&".join(
        f"{quote(name, safe='~')}={quote(value, safe='~')}" for name, value in parameters.items()
    )
    return Envelope(method, query, headers, body)


def stamp(now: float) -> str:
    return datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
