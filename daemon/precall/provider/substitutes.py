"""Replies of the actions that replace QueryCallStatus where it is not available, as `Answer`, `InEffect`, `NonAnswer`.

Both are read actions of the same product. QuerySubscriptionDetail says whether a binding is in effect, and
QuerySecretNoDetail whether its number X is sound. Neither returns a temporary number. The real numbers in the first
reply are ignored: they are registered already, and only Status 3 leads to one.

Sources: the products' API reference and the models of the official SDK (dyplsapi 2.5.1). Layouts, keys in any order:

    {"Code": "OK", "Message": "OK", "RequestId": "E7F9...", "SecretBindDetailDTO":
        {"SubsId": "1000...", "Status": 1, "ExpireDate": "2026-01-02 03:04:05", "PhoneNoA": "...", ...}}
    {"Code": "OK", "Message": "OK", "RequestId": "A90E...", "SecretNoInfoDTO":
        {"SecretStatus": 1, "CertifyStatus": 1, "Province": "...", ...}}
"""

import re
from collections.abc import Mapping

from precall.core.model import Answer, Failure, InEffect, NonAnswer, Status
from precall.provider.failures import TransportTrouble, trouble
from precall.provider.replies import opened

_NO_SUCH_NUMBER = re.compile(r"isv\.NO_NOT_EXISTS?", re.IGNORECASE)


def read_subscription(
    http_status: int, headers_retry_after: str | None, content_type: str, body: bytes
) -> Answer | InEffect | NonAnswer:
    """Read a reply to QuerySubscriptionDetail: Status 0 is expired, 1 in effect. X is assumed to be sound."""
    reply = opened(http_status, headers_retry_after, content_type, body)
    if isinstance(reply, NonAnswer):
        return reply
    content, request_id = reply
    match _whole(content, "SecretBindDetailDTO", "Status"):
        case TransportTrouble() as what:
            return trouble(what, request_id)
        case 0:
            return Answer(Status.EXPIRED, request_id=request_id)
        case 1:
            return InEffect(x_sound=True, request_id=request_id)
        case _:
            return trouble(TransportTrouble.UNKNOWN_STATUS, request_id)


def read_secret_no(
    http_status: int, headers_retry_after: str | None, content_type: str, body: bytes
) -> InEffect | NonAnswer:
    """Read a reply to QuerySecretNoDetail. Only a bound X (SecretStatus 1) is sound.

    SecretStatus 0 is unbound, 2 locked and 3 frozen. A number that the pool does not have is not sound either.
    """
    reply = opened(http_status, headers_retry_after, content_type, body)
    if isinstance(reply, NonAnswer):
        # "No such binding" cannot mean the binding, since only X was asked about.
        if reply.failure is Failure.GONE or _NO_SUCH_NUMBER.fullmatch(reply.code):
            return InEffect(x_sound=False, request_id=reply.request_id)
        return reply
    content, request_id = reply
    match _whole(content, "SecretNoInfoDTO", "SecretStatus"):
        case TransportTrouble() as what:
            return trouble(what, request_id)
        case 0 | 1 | 2 | 3 as status:
            return InEffect(x_sound=status == 1, request_id=request_id)
        case _:
            return trouble(TransportTrouble.UNKNOWN_STATUS, request_id)


def _whole(content: Mapping[str, object], holder: str, name: str) -> int | TransportTrouble:
    """Return a small integer from the object `holder`, as a number or as text; otherwise what is wrong with it."""
    dto = content.get(holder)
    if not isinstance(dto, dict):
        return TransportTrouble.NO_DTO
    value = dto.get(name)
    if type(value) is int:
        return value
    if isinstance(value, str):
        if not value.strip() or value.strip() == "null":
            return TransportTrouble.STATUS_NULL
        return (
            int(value)
            if value.strip().isascii() and value.strip().isdecimal()
            else TransportTrouble.STATUS_TEXT
        )
    return TransportTrouble.STATUS_NULL if value is None else TransportTrouble.STATUS_TYPE
