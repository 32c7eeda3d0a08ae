"""Parses replies of the provider: from bytes to `Answer`, `CallDetail` or `NonAnswer`. Pure; never raises.

Only HTTP 2xx with `Code` OK and a `Status` of 1 to 4 can change a route. Everything else is a `NonAnswer`, classified
by `failures`. A reply with a repeated key is ambiguous, and so a non-answer. A reply that cannot be decoded is one too.
Its code, ASCII in any encoding, still counts if it says that precall must wait or that the account is refused. The
substitute actions have a shorter list of their own in `substitutes`.

Sources: the product pages of QueryCallStatus and QueryCallDetailByCallId. Layouts, keys in any order:

    {"Code": "OK", "Message": "OK", "RequestId": "E7F9...", "SecretCallStatusDTO":
        {"Status": 4, "CalledNo": "17000000000", "Extension": "..."}}
    {"Code": "OK", "Message": "OK", "RequestId": "A90E...", "Data": "{\\"state\\": \\"200000\\", ...}"}
    <QueryCallStatusResponse><Code/><Message/><RequestId/><SecretCallStatusDTO>...</...></...>
    <Error><Code/><Message/><RequestId/><HostId/></Error>
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from xml.etree.ElementTree import Element, ParseError

import orjson
from defusedxml import DefusedXmlException
from defusedxml.ElementTree import fromstring

from precall.core.duplicate_keys import parsed, repeated_key
from precall.core.model import Answer, Failure, NonAnswer, Status
from precall.core.numbers import clean
from precall.provider.failures import TransportTrouble, classify, safe_code, trouble, without_code

BODY_LIMIT = 64 * 1024

_BOM = b"\xef\xbb\xbf"
_HTML = re.compile(rb"<(?:!doctype\s+html|html|head|body)\b", re.IGNORECASE)
_EXTENSION = re.compile(r"[0-9]{1,20}", re.ASCII)
_INTEGER = re.compile(r"-?[0-9]+", re.ASCII)
_MILLISECONDS = re.compile(r"[0-9]{1,18}", re.ASCII)
_SECONDS = re.compile(r"[0-9]{1,9}", re.ASCII)
_LONGEST_RETRY_AFTER = 60.0
# The product page shows Data with full-width quotes and escaped braces.
_TYPOGRAPHY = {ord("“"): '"', ord("”"): '"', ord("＂"): '"'}
_NOT_AVAILABLE = "100008.0"
_GZIP = b"\x1f\x8b"
_ENCODINGS = (("utf-8", "strict"), ("gb18030", "strict"), ("utf-8", "replace"))
"""Encodings of an undecodable reply: UTF-8 with broken escapes, GBK, UTF-8 cut within a character."""
_XML_DECLARATION = re.compile(r"<\?xml[^>]*\?>")
_HEEDED = (Failure.THROTTLED, Failure.STALE, Failure.ACCOUNT, Failure.TRANSIENT)
"""The classes that an undecodable reply may have. None of these is about a binding."""
_STATUSES: dict[object, Status] = {
    form: status for status in Status for form in (int(status), str(int(status)))
}


@dataclass(frozen=True, slots=True)
class CallDetail:
    """What the provider knows about one call.

    `data` is the decoded Data, None for "nothing yet": either the call is not over, or no call matches id, product and
    day. `state` is "" and `duration` None if missing. `duration` is in seconds, 0 if the call did not connect. `caller`
    and `callee` are real numbers.
    """

    request_id: str = ""
    data: Mapping[str, Any] | None = field(default=None, repr=False)
    state: str = ""
    state_desc: str = field(default="", repr=False)
    duration: int | None = None
    caller: str = field(default="", repr=False)
    callee: str = field(default="", repr=False)


def read_status(
    http_status: int, headers_retry_after: str | None, content_type: str, body: bytes
) -> Answer | NonAnswer:
    """Read a reply to QueryCallStatus. `headers_retry_after` is x-acs-retry-after, in milliseconds."""
    reply = opened(http_status, headers_retry_after, content_type, body)
    if isinstance(reply, NonAnswer):
        return reply
    content, request_id = reply
    dto = content.get("SecretCallStatusDTO")
    if not isinstance(dto, dict):
        return trouble(TransportTrouble.NO_DTO, request_id)
    status = _status(dto.get("Status"))
    if isinstance(status, TransportTrouble):
        return trouble(status, request_id)
    called_no = dto.get("CalledNo")
    number = _number(called_no)
    # The product page has null for Status 3. XML can only spell it out or omit it.
    malformed = not number and (status is Status.TEMPORARY or called_no not in (None, "", "null"))
    extension = _extension(dto.get("Extension"))
    if extension is None:
        # Without its extension the number reaches someone else.
        if status is Status.NORMAL:
            return trouble(TransportTrouble.BAD_EXTENSION, request_id)
        number, extension, malformed = "", "", True
    return Answer(status, number, extension, request_id, malformed)


def read_detail(
    http_status: int, headers_retry_after: str | None, content_type: str, body: bytes
) -> CallDetail | NonAnswer:
    """Read a reply to QueryCallDetailByCallId. `headers_retry_after` is x-acs-retry-after, in milliseconds."""
    reply = opened(http_status, headers_retry_after, content_type, body)
    if isinstance(reply, NonAnswer):
        if reply.code == _NOT_AVAILABLE:
            return CallDetail(reply.request_id)
        return reply
    content, request_id = reply
    data = _decoded(content.get("Data"))
    if isinstance(data, TransportTrouble):
        return trouble(data, request_id)
    if not data:
        return CallDetail(request_id)
    return CallDetail(
        request_id,
        data,
        safe_code(_text(data.get("state"))),
        _text(data.get("stateDesc")),
        _duration(data.get("duration")),
        _text(data.get("caller")),
        _text(data.get("callee")),
    )


def opened(
    http_status: int, headers_retry_after: str | None, content_type: str, body: bytes
) -> tuple[dict[str, Any], str] | NonAnswer:
    """Return the content and the RequestId of a reply with Code OK, or a non-answer."""
    retry_after = _retry_after(headers_retry_after) if headers_retry_after else None
    content = content_of(content_type, body)
    if isinstance(content, TransportTrouble):
        return _undecoded(http_status, content, body, retry_after)
    # Errors of the gateway capitalize these keys or not.
    code = content.get("Code", content.get("code"))
    if content.get("code", code) != code:
        return without_code(http_status, TransportTrouble.CONTRADICTORY, "", retry_after)
    request_id = content.get("RequestId", content.get("requestId"))
    if not (isinstance(request_id, str) and _is_request_id(request_id)):
        request_id = ""
    if code == "OK":
        if 200 <= http_status < 300:
            return content, request_id
        return without_code(http_status, TransportTrouble.NOT_HTTP_200, request_id, retry_after)
    if isinstance(code, str) and code.strip():
        return classify(code.strip(), http_status, request_id, retry_after)
    return without_code(http_status, TransportTrouble.NO_CODE, request_id, retry_after)


def _undecoded(http_status: int, what: TransportTrouble, body: bytes, retry_after: float | None) -> NonAnswer:
    """Classify a reply that cannot be parsed: by its code if it can be found, else by its HTTP status."""
    if what in (TransportTrouble.BAD_JSON, TransportTrouble.BAD_XML):
        for encoding, errors in _ENCODINGS:
            try:
                found = classify(_code(body.decode(encoding, errors)), http_status, "", retry_after)
            except (ValueError, ParseError, DefusedXmlException):
                continue
            if found.failure in _HEEDED:
                return found
    return without_code(http_status, what, "", retry_after)


def _code(text: str) -> str:
    """Return the code of a reply that only its encoding breaks. Raises ValueError or an error of the parsers."""
    text = text.lstrip("\ufeff").strip()
    if text.startswith("<"):
        content: object = _children(fromstring(_XML_DECLARATION.sub("", text, count=1), forbid_dtd=True))
    else:
        content = parsed(text, strict=False)
    given = (
        [content[name] for name in ("Code", "code") if name in content] if isinstance(content, dict) else []
    )
    if not given or not isinstance(given[0], str) or given[-1] != given[0] or given[0] == "OK":
        raise ValueError("no code, or two")
    return given[0].strip()


def _is_request_id(value: str) -> bool:
    """Whether a text looks like a UUID. It is logged, so it must not be a phone number."""
    plain = value.replace("-", "")
    return len(value) <= 64 and plain.isalnum() and plain.isascii() and not plain.isdecimal()


def content_of(content_type: str, body: bytes) -> dict[str, Any] | TransportTrouble:
    """Return the members of a reply in JSON or XML, whatever its Code. Else why it cannot be read."""
    if len(body) > BODY_LIMIT:
        return TransportTrouble.BODY_TOO_LARGE
    if not body.startswith(b"{"):
        body = body.removeprefix(_BOM).strip()
        if not body:
            return TransportTrouble.EMPTY
        if body.startswith(b"<"):
            return _parsed_xml(content_type, body)
    try:
        content = orjson.loads(body)
    except orjson.JSONDecodeError:
        if body.startswith(_GZIP):
            return TransportTrouble.COMPRESSED
        return TransportTrouble.HTML if "html" in content_type.lower() else TransportTrouble.BAD_JSON
    if not isinstance(content, dict):
        return TransportTrouble.NOT_AN_OBJECT
    keys = len(content)
    for value in content.values():
        if type(value) is dict:
            keys += len(value)
    # With as many colons as keys, none is repeated. This runs thousands of times a second.
    if body.count(b":") != keys and _contradicts(body, content):
        return TransportTrouble.CONTRADICTORY
    return content


def _contradicts(text: bytes, content: object) -> bool:
    try:
        return repeated_key(text, content) is not None
    except ValueError:
        return True


def _parsed_xml(content_type: str, body: bytes) -> dict[str, Any] | TransportTrouble:
    """Return two levels of elements as nested mappings. Deeper ones are not needed."""
    if _HTML.match(body):
        return TransportTrouble.HTML
    try:
        return _children(xml_root(body))
    except ValueError:
        return TransportTrouble.HTML if "html" in content_type.lower() else TransportTrouble.BAD_XML


def xml_root(body: bytes) -> Element:
    """Return the root of a document without a DTD. Raises ValueError."""
    try:
        root: Element = fromstring(body, forbid_dtd=True)
    # An unknown declared encoding is a LookupError.
    except (ParseError, DefusedXmlException, LookupError) as error:
        raise ValueError("not XML") from error
    return root


def _children(root: Element) -> dict[str, Any]:
    content: dict[str, Any] = {}
    for child in root:
        if child.tag in content:
            raise ValueError("repeated element")
        content[child.tag] = _leaves(child) if len(child) else (child.text or "").strip()
    return content


def _leaves(parent: Element) -> dict[str, str]:
    leaves: dict[str, str] = {}
    for leaf in parent:
        if leaf.tag in leaves:
            raise ValueError("repeated element")
        leaves[leaf.tag] = (leaf.text or "").strip()
    return leaves


def _status(value: object) -> Status | TransportTrouble:
    """Return the status, 1 to 4, given as a number or as text (as in XML); otherwise what is wrong with it."""
    kind = type(value)
    if kind is int or kind is str:
        return _STATUSES.get(value) or _not_a_status(value)
    if value is None:
        return TransportTrouble.STATUS_NULL
    if kind is bool:
        return TransportTrouble.STATUS_BOOL
    return TransportTrouble.STATUS_FLOAT if kind is float else TransportTrouble.STATUS_TYPE


def _number(value: object) -> str:
    """Return a phone number as `clean` does, "" for anything else."""
    return clean(value) if isinstance(value, str) else ""


def _extension(value: object) -> str | None:
    """Return an extension, also one given as a whole number, "" if there is none, None if it is invalid."""
    if value is None:
        return ""
    if type(value) is int:
        value = str(value)
    if not isinstance(value, str):
        return None
    text = value.strip()
    if text in ("", "null"):
        return ""
    return text if _EXTENSION.fullmatch(text) else None


def _not_a_status(value: object) -> TransportTrouble:
    text = str(value)
    if text in ("", "null"):
        return TransportTrouble.STATUS_NULL
    if text == "0":
        return TransportTrouble.STATUS_ZERO
    return TransportTrouble.UNKNOWN_STATUS if _INTEGER.fullmatch(text) else TransportTrouble.STATUS_TEXT


def _decoded(data: object) -> dict[str, Any] | TransportTrouble | None:
    """Return the JSON in the string Data, None for "nothing yet": "", null or absent."""
    if isinstance(data, str):
        text = data.strip()
        if not text:
            return None
        data = _decoded_json(text)
        if data is TransportTrouble.BAD_DATA:
            data = _decoded_json(text.translate(_TYPOGRAPHY).replace(r"\{", "{").replace(r"\}", "}"))
    if data is None or isinstance(data, dict | TransportTrouble):
        return data
    return TransportTrouble.BAD_DATA


def _decoded_json(text: str) -> object:
    try:
        data = orjson.loads(text)
    except orjson.JSONDecodeError:
        return TransportTrouble.BAD_DATA
    return TransportTrouble.CONTRADICTORY if _contradicts(text.encode(), data) else data


def _duration(value: object) -> int | None:
    if type(value) is int and value >= 0:
        return value
    if isinstance(value, str) and _SECONDS.fullmatch(value):
        return int(value)
    return None


def _text(value: object) -> str:
    return value if isinstance(value, str) else str(value) if type(value) is int else ""


def _retry_after(milliseconds: str) -> float | None:
    """Return the seconds of a delay in milliseconds, at most 60. None unless it is a positive whole number."""
    text = milliseconds.strip()
    if not _MILLISECONDS.fullmatch(text):
        return None
    return min(int(text) / 1000, _LONGEST_RETRY_AFTER) or None
