"""The provider's message queues (MNS): tokens, signatures, visibility and deletion, without sockets.

A customer's queues are named after their account and the kind of reports in them. A message that is received is hidden
for the visibility timeout, and comes again unless it was deleted. Sometimes one comes twice anyway. Times are Unix
seconds, and pass in real time. The layout of replies is from the service's pages.
"""

from __future__ import annotations

import base64
import json
import random
import re
import uuid
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from itertools import islice
from urllib.parse import parse_qsl
from xml.etree.ElementTree import Element, ParseError, fromstring, tostring

from precall.simulator.calls import beijing
from precall.simulator.scenario import Queues
from precall.simulator.signature import mns_signature, same

QUEUE_PATH = re.compile(r"/queues/([A-Za-z0-9-]+)/messages")
EXCEPTION_REPORT, CALL_REPORT = "SecretExceptionPhoneReport", "SecretReport"
MOST_AT_ONCE, LONGEST_WAIT = 16, 30
CLOCK_WINDOW = 15 * 60.0
_VERSION = "2015-06-06"
_NAMESPACE = "http://mns.aliyuncs.com/doc/v1/"
_MESSAGES = {
    "MessageNotExist": (404, "Message not exist."),
    "QueueNotExist": (404, "The queue name you provided is not exist."),
    "InvalidArgument": (400, "The value of numOfMessages should between 1 and 16."),
    "MalformedXML": (400, "The XML you provided was not well-formed."),
    "TimeExpired": (400, "The http request you sent is expired."),
    "AccessDenied": (
        403,
        "The OwnerId that your Access Key Id associated to is forbidden for this operation.",
    ),
    "SignatureDoesNotMatch": (
        403,
        "The request signature we calculated does not match the one you provided.",
    ),
    "InternalError": (500, "Internal error."),
}


class QueueRefusal(Exception):
    """The service refuses a request with a code."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


@dataclass(slots=True, eq=False)
class _Message:
    body: bytes
    message_id: str
    visible_at: float = 0.0
    handle: str = ""
    dequeued: int = 0


@dataclass(frozen=True, slots=True)
class _Token:
    secret: str
    security_token: str
    expires_at: float


@dataclass(frozen=True, slots=True)
class QueueRequest:
    """A request as received. `target` is its path and query; names of headers are in lower case."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes = b""


@dataclass(slots=True)
class MessageQueues:
    """All queues of the customer. `hung` and `broken` let every request hang, or fail with InternalError."""

    settings: Queues
    seed: int = 0
    hung: bool = False
    broken: bool = False
    _queues: dict[str, deque[_Message]] = field(init=False)
    _tokens: dict[str, _Token] = field(init=False, default_factory=dict)
    _draw: random.Random = field(init=False)

    def __post_init__(self) -> None:
        self._queues = {name: deque() for name in self.settings.names}
        self._draw = random.Random(self.seed)

    def __len__(self) -> int:
        """The number of messages that were not deleted."""
        return sum(map(len, self._queues.values()))

    def named(self, kind: str) -> str:
        """Return the name of the queue for a kind of report, "" if there is none."""
        return next((name for name in self._queues if name.endswith(f"-{kind}")), "")

    def put(self, kind: str, content: object) -> None:
        """Send a message: bytes as they are, anything else as JSON. Without a queue for `kind` it is lost."""
        name = self.named(kind)
        if not name:
            return
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        copies = 2 if self._draw.random() < self.settings.duplicates else 1
        for _ in range(copies):
            self._queues[name].append(_Message(body, uuid.uuid4().hex.upper()))

    def issue_token(self, name: str, kind: str, now: float) -> dict[str, str] | None:
        """Return the MessageTokenDTO of QueryTokenForMnsQueue, None for an unknown queue."""
        if name not in self._queues or not name.endswith(f"-{kind}"):
            return None
        token = _Token(uuid.uuid4().hex, uuid.uuid4().hex, now + self.settings.token_lifetime)
        key = f"STS.{uuid.uuid4().hex}"
        self._tokens[key] = token
        return {
            "AccessKeyId": key,
            "AccessKeySecret": token.secret,
            "SecurityToken": token.security_token,
            "CreateTime": beijing(now),
            "ExpireTime": beijing(token.expires_at),
        }

    def revoke_tokens(self) -> None:
        """Let no token issued so far be valid any longer."""
        self._tokens.clear()

    def patience(self, request: QueueRequest) -> float:
        """Return for how many seconds a request waits at an empty queue."""
        seconds = dict(parse_qsl(request.target.partition("?")[2])).get("waitseconds", "0")
        return min(int(seconds), LONGEST_WAIT) if request.method == "GET" and seconds.isdecimal() else 0

    def answer(self, request: QueueRequest, now: float) -> tuple[int, bytes]:
        """Return the status and the body of the reply to a request."""
        try:
            self._admit(request, now)
            if self.broken:
                raise QueueRefusal("InternalError")
            path, _, query = request.target.partition("?")
            found = QUEUE_PATH.fullmatch(path)
            queue = self._queues.get(found[1]) if found else None
            if queue is None:
                raise QueueRefusal("QueueNotExist")
            if request.method == "DELETE":
                return self._delete(queue, request.body, now)
            return self._receive(queue, dict(parse_qsl(query)).get("numOfMessages", ""), now)
        except QueueRefusal as refusal:
            status, message = _MESSAGES[refusal.code]
            return status, _document(
                _element("Error", {"Code": refusal.code, "Message": message, **_origin()})
            )

    def _admit(self, request: QueueRequest, now: float) -> None:
        headers = request.headers
        scheme, _, given = headers.get("authorization", "").partition(" ")
        key, _, signature = given.partition(":")
        token = self._tokens.get(key)
        expired = token is not None and now >= token.expires_at
        if scheme != "MNS" or token is None or expired:
            raise QueueRefusal("AccessDenied")
        if headers.get("security-token") != token.security_token or headers.get("x-mns-version") != _VERSION:
            raise QueueRefusal("AccessDenied")
        try:
            sent = parsedate_to_datetime(headers.get("date", "")).timestamp()
        except ValueError:
            raise QueueRefusal("TimeExpired") from None
        if abs(sent - now) > CLOCK_WINDOW:
            raise QueueRefusal("TimeExpired")
        if not same(signature, mns_signature(token.secret, request.method, request.target, headers)):
            raise QueueRefusal("SignatureDoesNotMatch")

    def _receive(self, queue: deque[_Message], wanted: str, now: float) -> tuple[int, bytes]:
        if not (wanted.isdecimal() and 1 <= int(wanted) <= MOST_AT_ONCE):
            raise QueueRefusal("InvalidArgument")
        batch = list(islice((one for one in queue if one.visible_at <= now), int(wanted)))
        if not batch:
            raise QueueRefusal("MessageNotExist")
        root = Element("Messages")
        for message in batch:
            message.handle, message.dequeued = f"1-{uuid.uuid4().hex}", message.dequeued + 1
            message.visible_at = now + self.settings.visibility
            fields = {
                "MessageId": message.message_id,
                "ReceiptHandle": message.handle,
                "MessageBody": base64.b64encode(message.body).decode(),
                "NextVisibleTime": str(int(message.visible_at * 1000)),
                "DequeueCount": str(message.dequeued),
                "Priority": "8",
            }
            root.append(_element("Message", fields))
        return 200, _document(root)

    def _delete(self, queue: deque[_Message], body: bytes, now: float) -> tuple[int, bytes]:
        try:
            handles = [(one.text or "").strip() for one in fromstring(body)]  # noqa: S314 - from a test
        except ParseError:
            raise QueueRefusal("MalformedXML") from None
        hidden = {message.handle: message for message in queue if message.visible_at > now}
        errors = Element("Errors")
        for handle in handles:
            if handle in hidden:
                queue.remove(hidden.pop(handle))
            else:
                fields = {"ErrorCode": "ReceiptHandleError", "ErrorMessage": "", "ReceiptHandle": handle}
                errors.append(_element("Error", fields))
        if len(errors):
            return 404, _document(errors)
        return 204, b""


class ExceptionWatch:
    """Reports each number X that becomes abnormal, or normal again."""

    def __init__(self, put: Callable[[str, object], None]) -> None:
        self._put = put
        self._abnormal: dict[str, bool] = {}

    def see(self, number_x: str, pool_key: str, now: float, *, abnormal: bool) -> None:
        """Take note of the state of one number, and report it if it has changed since the look before."""
        before = self._abnormal.setdefault(number_x, abnormal)
        if before != abnormal:
            self._abnormal[number_x] = abnormal
            self._put(EXCEPTION_REPORT, exception_report(number_x, pool_key, now, abnormal=abnormal))


def exception_report(number_x: str, pool_key: str, now: float, *, abnormal: bool) -> dict[str, object]:
    """Return a SecretExceptionPhoneReport."""
    return {
        "secretNo": number_x,
        "partnerKey": pool_key,
        "noStatus": 0 if abnormal else 1,
        "timestamp": int(now * 1000),
    }


def _origin() -> dict[str, str]:
    return {
        "RequestId": uuid.uuid4().hex.upper(),
        "HostId": "http://1943695596114318.mns.cn-hangzhou.aliyuncs.com",
    }


def _document(root: Element) -> bytes:
    root.set("xmlns", _NAMESPACE)
    content: bytes = tostring(root, encoding="utf-8", xml_declaration=True)
    return content


def _element(name: str, fields: Mapping[str, str]) -> Element:
    root = Element(name)
    for key, value in fields.items():
        child = Element(key)
        child.text = value
        root.append(child)
    return root
