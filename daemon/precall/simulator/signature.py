"""Signatures that the gateway expects, for both of the provider's schemes.

As in the gateway, they are computed from decoded values, encoded again here. The code deliberately shares nothing with
the daemon's signer, so a mistake cannot hide on both sides.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Iterable, Mapping, Sequence
from urllib.parse import quote

Pairs = Sequence[tuple[str, str]]


def rpc_string_to_sign(method: str, parameters: Pairs) -> str:
    """Return the string to sign for query and form parameters; `Signature` is left out."""
    return f"{method}&%2F&{_percent(_canonical(pair for pair in parameters if pair[0] != 'Signature'))}"


def rpc_signature(secret: str, string_to_sign: str) -> str:
    """Return HMAC-SHA1 in Base64. The key is the secret and an ampersand."""
    digest = hmac.digest(f"{secret}&".encode(), string_to_sign.encode(), "sha1")
    return base64.b64encode(digest).decode()


def acs3_canonical_request(
    method: str,
    query: Pairs,
    headers: Mapping[str, Sequence[str]],
    signed: Sequence[str],
    content_sha256: str,
) -> str:
    """Return the canonical request. `headers` are all values by lower-case name, `signed` the names as listed."""
    lines = [
        f"{name}:{','.join(sorted(value.strip() for value in headers.get(name, ())))}\n" for name in signed
    ]
    return "\n".join((method, "/", _canonical(query), "".join(lines), ";".join(signed), content_sha256))


def acs3_signature(secret: str, canonical_request: str) -> str:
    """Return HMAC-SHA256 in hexadecimal. The key is the plain secret."""
    hashed = hashlib.sha256(canonical_request.encode()).hexdigest()
    return hmac.digest(secret.encode(), f"ACS3-HMAC-SHA256\n{hashed}".encode(), "sha256").hex()


def mns_signature(secret: str, method: str, target: str, headers: Mapping[str, str]) -> str:
    """Return Message Service's HMAC-SHA1 in Base64. `target` is path and query; names of headers are in lower case."""
    own = "".join(f"{name}:{headers[name]}\n" for name in sorted(headers) if name.startswith("x-mns-"))
    named = [headers.get(name, "") for name in ("content-md5", "content-type", "date")]
    text = "\n".join((method, *named, own + target))
    return base64.b64encode(hmac.digest(secret.encode(), text.encode(), "sha1")).decode()


def same(given: str, expected: str) -> bool:
    """Compare in constant time."""
    return hmac.compare_digest(given.encode(), expected.encode())


def _canonical(pairs: Iterable[tuple[str, str]]) -> str:
    return "&".join(f"{_percent(name)}={_percent(value)}" for name, value in sorted(pairs))


def _percent(text: str) -> str:
    return quote(text, safe="~")
