"""The wire format of replies and errors: JSON and XML as on the provider's pages.

Covers bytes, key order, content types, default messages and HTTP statuses; service.py decides which reply to give.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import Any, Literal
from xml.sax.saxutils import escape

from precall.simulator.scenario import QUERY_CALL_DETAIL, QUERY_CALL_STATUS

JSON_TYPE = "application/json;charset=utf-8"
XML_TYPE = "text/xml;charset=utf-8"
HTML_TYPE = "text/html;charset=utf-8"
_XML_HEAD = "<?xml version='1.0' encoding='UTF-8'?>"
_HTML = (
    b"<html>\r\n<head><title>502 Bad Gateway</title></head>\r\n<body>\r\n<center><h1>502 Bad Gateway</h1></center>\r\n"
    b"<hr><center>Tengine</center>\r\n</body>\r\n</html>\r\n"
)
_HOSTS = {QUERY_CALL_STATUS: "dyplsapi.aliyuncs.com", QUERY_CALL_DETAIL: "dyvmsapi.aliyuncs.com"}
_HTTP_STATUS = {
    "OK": 200,
    "InternalError": 500,
    "ServiceUnavailable": 503,
    "InvalidApi.NotFound": 404,
    "InvalidAction.NotFound": 404,
    "InvalidAccessKeyId.NotFound": 404,
    "Forbidden.RAM": 403,
    "NoPermission": 403,
}
_MESSAGES = {
    "OK": "OK",
    "Throttling": "Request was denied due to request throttling.",
    "Throttling.User": "Request was denied due to user flow control.",
    "Throttling.Api": "Request was denied due to api flow control.",
    "ServiceUnavailable": "The request has failed due to a temporary failure of the server.",
    "InternalError": "The request processing has failed due to some unknown error.",
    "isv.FLOW_LIMIT": "业务流控",
    "isv.SUBS_NOT_EXIST": "绑定关系不存在",
    "isv.SUBS_NOT_BELONG": "绑定关系不属于该客户",
    "isv.POOLKEY_NOT_EXISTS": "号码池不存在",
    "isv.NO_NOT_EXIST": "号码不存在",
    "isv.QUEUE_NOT_EXIST": "队列不存在",
    "isv.MOBILE_NUMBER_ILLEGAL": "手机号码格式错误",
    "isp.SYSTEM_ERROR": "系统错误",
}


@dataclass(frozen=True, slots=True)
class Reply:
    """An HTTP response. `retry_after` is in milliseconds; 0 sends no such header."""

    http_status: int
    body: bytes
    content_type: str
    code: str
    retry_after: int = 0


@dataclass(frozen=True, slots=True)
class Style:
    """How to lay out the reply to a request. `format` is `json` or `xml`."""

    format: str
    request_id: str
    action: str


@dataclass(frozen=True, slots=True)
class BindingStatus:
    """The platform's answer for a binding. `status` is 1-4 or whatever a scenario sets; `called_no` may be ""."""

    status: object
    called_no: str
    extension: str = ""


@dataclass(frozen=True, slots=True)
class Subscription:
    """QuerySubscriptionDetail's answer for a binding, with real numbers. `expires_at` is Beijing time, or ""."""

    subs_id: str
    in_effect: bool
    number_x: str
    number_a: str
    number_b: str
    extension: str
    expires_at: str


def is_business(code: str) -> bool:
    """Return whether a code uses the action's own layout; gateway codes use the error layout."""
    return code == "OK" or code.startswith(("isv.", "isp."))


def status_reply(
    style: Style, standing: BindingStatus, no_number: Literal["null", "missing", "empty"]
) -> Reply:
    """Build a QueryCallStatus reply; keys are in the order of the provider's page."""
    answer: dict[str, Any] = {"Status": standing.status, "CalledNo": standing.called_no}
    if not standing.called_no:
        match no_number:
            case "null":
                answer["CalledNo"] = None
            case "missing":
                del answer["CalledNo"]
            case "empty":
                pass
    if standing.extension:
        answer["Extension"] = standing.extension
    return _success(
        style, {"Message": "OK", "RequestId": style.request_id, "SecretCallStatusDTO": answer, "Code": "OK"}
    )


def subscription_reply(style: Style, subscription: Subscription) -> Reply:
    """Build a QuerySubscriptionDetail reply with the fields of the official SDK. Status 0 is expired, 1 in effect."""
    answer: dict[str, Any] = {
        "Status": int(subscription.in_effect),
        "SubsId": subscription.subs_id,
        "PhoneNoA": subscription.number_a,
        "PhoneNoB": subscription.number_b or None,
        "PhoneNoX": subscription.number_x,
        "Extension": subscription.extension or None,
        "ExpireDate": subscription.expires_at or None,
        "NeedRecord": False,
    }
    return _success(
        style, {"Message": "OK", "RequestId": style.request_id, "SecretBindDetailDTO": answer, "Code": "OK"}
    )


def secret_no_reply(style: Style, secret_status: int) -> Reply:
    """Build a QuerySecretNoDetail reply. `secret_status` is 0 unbound, 1 bound, 2 locked or 3 frozen."""
    answer = {
        "SecretStatus": secret_status,
        "CertifyStatus": 1,
        "Vendor": 1,
        "Province": "浙江",
        "City": "杭州",
    }
    return _success(
        style, {"Message": "OK", "RequestId": style.request_id, "SecretNoInfoDTO": answer, "Code": "OK"}
    )


def queue_token_reply(style: Style, token: dict[str, str]) -> Reply:
    """Build a QueryTokenForMnsQueue reply."""
    return _success(
        style, {"Message": "OK", "RequestId": style.request_id, "MessageTokenDTO": token, "Code": "OK"}
    )


def detail_reply(style: Style, data: str) -> Reply:
    """Build a QueryCallDetailByCallId reply. `data` is JSON in a string, or ""."""
    if style.format == "xml":
        return _success(style, {"Code": "OK", "Data": data, "Message": "OK", "RequestId": style.request_id})
    return _success(style, {"Data": data, "Message": "OK", "RequestId": style.request_id, "Code": "OK"})


def error_reply(
    style: Style,
    code: str,
    message: str = "",
    http_status: int | None = None,
    *,
    business_http_errors: bool = False,
    retry_after: int = 0,
) -> Reply:
    """Build an error. Business codes come with HTTP 200 by default, gateway codes with 4xx or 5xx."""
    message = message or _MESSAGES.get(code, code)
    status = _usual_status(code, business_http_errors) if http_status is None else http_status
    if status == 200 and is_business(code):
        reply = _success(style, {"Message": message, "RequestId": style.request_id, "Code": code})
    else:
        values = {
            "Code": code,
            "Message": message,
            "RequestId": style.request_id,
            "HostId": _HOSTS.get(style.action, _HOSTS[QUERY_CALL_STATUS]),
            "Recommend": f"https://api.aliyun.com/troubleshoot?q={code}",
        }
        if style.format == "xml":
            values = {key: values[key] for key in ("RequestId", "HostId", "Code", "Message", "Recommend")}
        reply = _render(style, "Error", values, status)
    return replace(reply, code=code, retry_after=retry_after)


def html_reply() -> Reply:
    """Build the 502 page of a load balancer that lost the gateway behind it."""
    return Reply(502, _HTML, HTML_TYPE, "html")


def empty_reply() -> Reply:
    """Build an HTTP 200 with an empty body."""
    return Reply(200, b"", JSON_TYPE, "empty")


def garbage_reply(noise: bytes) -> Reply:
    """Build an HTTP 200 that claims to be JSON but is not."""
    return Reply(200, b"\xff{" + noise, JSON_TYPE, "garbage")


def truncated_reply(reply: Reply) -> Reply:
    """Cut a reply to the first half of its body."""
    return replace(reply, body=reply.body[: len(reply.body) // 2], code="truncated")


def _usual_status(code: str, business_http_errors: bool) -> int:
    if code in _HTTP_STATUS or not is_business(code):
        return _HTTP_STATUS.get(code, 400)
    if not business_http_errors:
        return 200
    return 500 if code.startswith("isp.") and code != "isp.RAM_PERMISSION_DENY" else 400


def _success(style: Style, values: dict[str, Any]) -> Reply:
    return _render(style, f"{style.action or QUERY_CALL_STATUS}Response", values, 200)


def _render(style: Style, root: str, values: dict[str, Any], http_status: int) -> Reply:
    if style.format == "json":
        body = json.dumps(values, ensure_ascii=False, separators=(",", ":"))
        return Reply(http_status, body.encode(), JSON_TYPE, "OK")
    return Reply(http_status, f"{_XML_HEAD}<{root}>{_elements(values)}</{root}>".encode(), XML_TYPE, "OK")


def _elements(values: dict[str, Any]) -> str:
    """Render as XML elements. XML has no null, so such an element is left out."""
    return "".join(
        f"<{key}>{_elements(value) if isinstance(value, dict) else escape(str(value))}</{key}>"
        for key, value in values.items()
        if value is not None
    )
