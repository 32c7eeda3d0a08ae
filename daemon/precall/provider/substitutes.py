"""What may be asked where QueryCallStatus is not to be had, read: bytes in, `Answer`, `InEffect` or `NonAnswer` out.

Two read actions of the same product. QuerySubscriptionDetail says whether a binding is in effect, QuerySecretNoDetail
how the pool's number X stands. Neither ever tells a temporary number, and the real numbers that the first one carries
are not taken over: they are registered already, and only Status 3 leads to one.

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
    """A reply to QuerySubscriptionDetail: Status 0 is expired, 1 in effect. X is taken for sound until asked about."""
    reply = opened(http_status, headers_retry_after, content_type, body)
    if isinstance(reply, NonAnswer):
        return reply
    content, request_id = reply
    match _told(content, "SecretBindDetailDTO", "Status"):
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
    """A reply to QuerySecretNoDetail: of SecretStatus 0 unbound, 1 bound, 2 locked, 3 frozen only 1 is sound, and a
    number the pool does not have is not."""
    reply = opened(http_status, headers_retry_after, content_type, body)
    if isinstance(reply, NonAnswer):
        # "No such binding" cannot be meant of the binding: it was not asked about.
        if reply.failure is Failure.GONE or _NO_SUCH_NUMBER.fullmatch(reply.code):
            return InEffect(x_sound=False, request_id=reply.request_id)
        return reply
    content, request_id = reply
    match _told(content, "SecretNoInfoDTO", "SecretStatus"):
        case TransportTrouble() as what:
            return trouble(what, request_id)
        case 0 | 1 | 2 | 3 as status:
            return InEffect(x_sound=status == 1, request_id=request_id)
        case _:
            return trouble(TransportTrouble.UNKNOWN_STATUS, request_id)


def _told(content: Mapping[str, object], holder: str, name: str) -> int | TransportTrouble:
    """A small whole number within the object that holds the answer; as text too, the way XML has it."""
    dto = content.get(holder)
    if not isinstance(dto, dict):
        return TransportTrouble.NO_DTO
    told = dto.get(name)
    if type(told) is int:
        return told
    if isinstance(told, str):
        if not told.strip() or told.strip() == "null":
            return TransportTrouble.STATUS_NULL
        return (
            int(told) if told.strip().isascii() and told.strip().isdecimal() else TransportTrouble.STATUS_TEXT
        )
    return TransportTrouble.STATUS_NULL if told is None else TransportTrouble.STATUS_TYPE
