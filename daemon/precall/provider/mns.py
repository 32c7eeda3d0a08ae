"""Message Service (MNS, now Simple Message Queue), where the provider puts its reports: signatures and replies. Pure.

Two requests are all that is needed, so there is no SDK: the provider's blocks, and is far larger.

    GET    /queues/NAME/messages?numOfMessages=16&waitseconds=20    a batch; empty is 404 MessageNotExist
    DELETE /queues/NAME/messages      <ReceiptHandles>              204, or <Errors> for some of them

A message that is received stays hidden for the queue's visibility timeout; unless it is deleted by then, it comes
again. Its body is what the product sent, in Base64.

The key of these requests is a temporary one, by QueryTokenForMnsQueue of the product's own API (Dybaseapi):

    {"Code": "OK", "MessageTokenDTO": {"AccessKeyId", "AccessKeySecret", "SecurityToken", "ExpireTime"}}

Sources: MNS pages "Sign requests", BatchReceiveMessage, BatchDeleteMessage and error codes; the Dybaseapi SDK and the
product's demos for the token. Content-MD5 is optional and left out: the page and the SDKs encode it in two ways.
"""

import base64
import binascii
import hmac
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from email.utils import formatdate
from xml.etree.ElementTree import Element
from xml.sax.saxutils import escape

from precall.core.model import Failure, NonAnswer
from precall.provider.failures import TransportTrouble, safe_code, trouble, without_code
from precall.provider.replies import opened, xml_root
from precall.provider.sign import Credential

BATCH = 16
"""Messages a request may receive or delete, the most that the service allows."""
WAIT = 20
"""Seconds that a request waits at an empty queue, of at most 30."""
LARGEST_BATCH = BATCH * 96 * 1024
"""Bytes. A message has at most 64 KiB, and some more around it."""
VERSION = "2015-06-06"
_TYPE = "text/xml;charset=utf-8"
_NAMESPACE = "http://mns.aliyuncs.com/doc/v1/"
_EMPTY = "MessageNotExist"
_GONE = {_EMPTY, "ReceiptHandleError"}
"""Codes of messages that cannot be deleted: they are gone already, or are visible again and will come again."""
_EXPIRES = re.compile(r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d", re.ASCII)
_EXPLAINED = {
    "QueueNotExist": (
        Failure.REFUSED,
        "there is no such queue: copy its name from the console to receipts.queue",
    ),
    "TimeExpired": (Failure.REFUSED, "the queue takes this machine's clock to be wrong"),
}
_DENIED = "the queue refuses the token that was given out for it: check the name in receipts.queue"
_REFUSED = "the queue refuses the request"


@dataclass(frozen=True, slots=True)
class QueueMessage:
    """A message. Its content may hold phone numbers. `handle` deletes it while it is hidden."""

    message_id: str
    handle: str = field(repr=False)
    content: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class QueueToken:
    """A key for one queue, and when it expires (Unix seconds; None: not said in a form that is known)."""

    credential: Credential
    expires_at: float | None = None


def messages_target(queue: str) -> str:
    """Return path and query of a request for a batch of messages."""
    return f"{deletion_target(queue)}?numOfMessages={BATCH}&waitseconds={WAIT}"


def deletion_target(queue: str) -> str:
    return f"/queues/{queue}/messages"


def deletion_body(messages: Sequence[QueueMessage]) -> bytes:
    """Return the body that deletes these messages, at most `BATCH` of them."""
    handles = "".join(f"<ReceiptHandle>{escape(message.handle)}</ReceiptHandle>" for message in messages)
    head = '<?xml version="1.0" encoding="UTF-8"?>'
    return f'{head}<ReceiptHandles xmlns="{_NAMESPACE}">{handles}</ReceiptHandles>'.encode()


def signed_headers(credential: Credential, method: str, target: str, now: float) -> dict[str, str]:
    """Return all headers of a signed request except Host. `target` is its path and query, `now` in Unix seconds."""
    date = formatdate(now, usegmt=True)
    token = {"security-token": credential.security_token} if credential.security_token else {}
    return {
        "Authorization": f"MNS {credential.access_key_id}:"
        f"{signature(credential.access_key_secret, method, target, date, _TYPE)}",
        "Content-Type": _TYPE,
        "Date": date,
        "x-mns-version": VERSION,
        **token,
    }


def signature(secret: str, method: str, target: str, date: str, content_type: str = "") -> str:
    """Return the signature of a request that has `x-mns-version` and no Content-MD5."""
    text = f"{method}\n\n{content_type}\n{date}\nx-mns-version:{VERSION}\n{target}"
    return base64.b64encode(hmac.digest(secret.encode(), text.encode(), "sha1")).decode()


def read_messages(
    http_status: int, _retry_after: str | None, _content_type: str, body: bytes
) -> list[QueueMessage] | NonAnswer:
    """Read a batch. What cannot be deleted, for want of a handle, is left out."""
    try:
        root = xml_root(body)
    except ValueError:
        return without_code(http_status, TransportTrouble.BAD_XML)
    if _name(root) == "Messages" and http_status == 200:
        found = (_leaves(child) for child in root if _name(child) == "Message")
        return [_message(leaves) for leaves in found if leaves.get("ReceiptHandle")]
    refusal = _refusal(http_status, _leaves(root))
    return [] if refusal.code == _EMPTY else refusal


def read_deletion(
    http_status: int, _retry_after: str | None, _content_type: str, body: bytes
) -> NonAnswer | None:
    """Read how a deletion ended: None if none of the messages is left to be deleted."""
    if http_status == 204:
        return None
    try:
        root = xml_root(body)
    except ValueError:
        return without_code(http_status, TransportTrouble.BAD_XML)
    errors = [_leaves(child) for child in root if _name(child) == "Error"] or [_leaves(root)]
    left = [error for error in errors if error.get("ErrorCode", error.get("Code")) not in _GONE]
    return _refusal(http_status, left[0]) if left else None


def read_token(
    http_status: int, retry_after: str | None, content_type: str, body: bytes
) -> QueueToken | NonAnswer:
    """Read a reply to QueryTokenForMnsQueue."""
    reply = opened(http_status, retry_after, content_type, body)
    if isinstance(reply, NonAnswer):
        return reply
    content, request_id = reply
    dto = content.get("MessageTokenDTO")
    if not isinstance(dto, dict):
        return trouble(TransportTrouble.NO_DTO, request_id)
    names = ("AccessKeyId", "AccessKeySecret", "SecurityToken")
    try:
        credential = Credential(*(str(dto.get(name) or "") for name in names))
    except ValueError:
        return trouble(TransportTrouble.BAD_DATA, request_id)
    return QueueToken(credential, _expiry(dto.get("ExpireTime")))


def _message(leaves: dict[str, str]) -> QueueMessage:
    return QueueMessage(
        safe_code(leaves.get("MessageId", "")),
        leaves["ReceiptHandle"],
        _decoded(leaves.get("MessageBody", "")),
    )


def _decoded(text: str) -> bytes:
    """Return what a body stands for. A sender may leave out Base64, and no JSON object is Base64, too."""
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return text.encode()


def _refusal(http_status: int, error: dict[str, str]) -> NonAnswer:
    code = safe_code(error.get("ErrorCode") or error.get("Code") or "")
    request_id = safe_code(error.get("RequestId", ""))
    if not code:
        return without_code(http_status, TransportTrouble.NO_CODE, request_id)
    if code in _EXPLAINED:
        failure, detail = _EXPLAINED[code]
        return NonAnswer(failure, code, detail, request_id)
    if http_status in (401, 403):
        return NonAnswer(Failure.ACCOUNT, code, _DENIED, request_id)
    failure = Failure.TRANSIENT if http_status >= 500 else Failure.REFUSED
    return NonAnswer(failure, code, _REFUSED, request_id)


def _leaves(parent: Element) -> dict[str, str]:
    return {_name(leaf): (leaf.text or "").strip() for leaf in parent}


def _name(element: Element) -> str:
    """Return the name of an element without its namespace."""
    return str(element.tag).rpartition("}")[2]


def _expiry(value: object) -> float | None:
    """Return a Beijing time as Unix seconds."""
    if not isinstance(value, str) or not _EXPIRES.fullmatch(value):
        return None
    try:
        return datetime.fromisoformat(f"{value}+08:00").timestamp()
    except ValueError:
        return None
