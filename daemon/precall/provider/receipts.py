"""What the provider pushes by itself, element by element: SecretReport, one per finished call of a handset, and
SecretExceptionPhoneReport, one per X that turned abnormal or normal again. Pure.

Sources: the product's pages of receipts. Elements may come twice and in any order; keys that are not known are left
alone; ids come as numbers or as text; times are Beijing time without a zone. Of the numbers of a call nothing is kept.
"""

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import orjson

from precall.core.calls import Call, NumberReport, Result, Source
from precall.core.causes import over
from precall.core.numbers import clean
from precall.provider.failures import safe_code

MESSAGES = frozenset({2, 3})
"""Values of `call_type` that are text messages."""

DETAIL_FACTS = (
    "startDate",
    "endDate",
    "gmtCreate",
    "aRingTime",
    "aEndTime",
    "bRingTime",
    "bEndTime",
    "bStartTime",
)
RECEIPT_FACTS = ("call_time", "call_out_time", "ring_time", "start_time", "release_time")

_TIME = re.compile(r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d", re.ASCII)
_CALL_ID = re.compile(r"[!-~]{1,128}", re.ASCII)
_SUBS_ID = re.compile(r"[0-9]{1,32}", re.ASCII)
_POOL_KEY = re.compile(r"[!-~]{1,64}", re.ASCII)
_WHOLE = re.compile(r"[0-9]{1,18}", re.ASCII)


class BadReceipt(ValueError):
    """An element that cannot be understood, and by which of its fields ("": as a whole)."""

    def __init__(self, field: str, detail: str) -> None:
        super().__init__(detail)
        self.field = field


def read_receipt(element: object, now: float) -> Call | NumberReport | None:
    """One element; None for what tells of no call (a text message). Raises BadReceipt."""
    if not isinstance(element, dict):
        raise BadReceipt("", "should be an object")
    if "noStatus" in element:
        return _number_report(element)
    if "call_id" in element:
        return _call(element, now)
    raise BadReceipt("", "is no SecretReport (call_id) and no SecretExceptionPhoneReport (noStatus)")


def kept(data: Mapping[str, Any], names: tuple[str, ...], **more: str | int) -> str:
    """The JSON of those of `names` that hold a time, and of `more`: nothing that could be a number of somebody."""
    times = {
        name: data[name] for name in names if isinstance(data.get(name), str) and _TIME.fullmatch(data[name])
    }
    return orjson.dumps(times | {name: value for name, value in more.items() if value != ""}).decode()


def _call(told: Mapping[str, Any], now: float) -> Call | None:
    call_id = _text(told, "call_id", _CALL_ID, "should be 1 to 128 printable characters")
    subs_id = _text(told, "sub_id", _SUBS_ID, "should be 1 to 32 digits")
    if _whole(told.get("call_type")) in MESSAGES:
        return None
    started, released = _moment(told.get("start_time")), _moment(told.get("release_time"))
    called_at = next(
        (
            at
            for name in ("call_time", "call_out_time", "start_time", "release_time")
            if (at := _moment(told.get(name)))
        ),
        None,
    )
    if called_at is None:
        raise BadReceipt("call_time", 'should be a time such as "2026-01-02 03:04:05"')
    duration = max(0.0, released - started) if started and released else 0.0
    cause = _cause(told.get("release_cause")) or _cause(told.get("unconnected_cause"))
    direction = _whole(told.get("release_dir"))
    return Call(
        call_id=call_id,
        called_at=called_at,
        reported_at=now,
        subs_id=subs_id,
        result=Result(over(cause, duration)),
        source=Source.RECEIPT,
        state=cause,
        duration=duration,
        detail=kept(told, RECEIPT_FACTS, release_dir="" if direction is None else direction),
    )


def _number_report(told: Mapping[str, Any]) -> NumberReport:
    number = told.get("secretNo")
    number_x = clean(str(number)) if isinstance(number, str) or type(number) is int else ""
    if not number_x:
        raise BadReceipt("secretNo", "should be a phone number")
    pool_key = told.get("partnerKey") or ""
    if not isinstance(pool_key, str) or (pool_key and not _POOL_KEY.fullmatch(pool_key)):
        raise BadReceipt("partnerKey", "should be the key of a pool")
    status = _whole(told.get("noStatus"))
    if status not in (0, 1):
        raise BadReceipt("noStatus", "should be 0 (abnormal) or 1 (normal)")
    at = _whole(told.get("timestamp"))
    if at is None:
        raise BadReceipt("timestamp", "should be epoch milliseconds")
    return NumberReport(number_x, pool_key, abnormal=status == 0, at=at / 1000)


def _text(told: Mapping[str, Any], name: str, shape: re.Pattern[str], hint: str) -> str:
    value = told.get(name)
    text = str(value) if type(value) is int else value
    if not isinstance(text, str) or not shape.fullmatch(text):
        raise BadReceipt(name, hint)
    return text


def _whole(value: object) -> int | None:
    """A whole number, also as text."""
    if type(value) is int:
        return value if 0 <= value < 10**18 else None
    return int(value) if isinstance(value, str) and _WHOLE.fullmatch(value) else None


def _cause(value: object) -> str:
    whole = _whole(value)
    return str(whole) if whole is not None else safe_code(value) if isinstance(value, str) and value else ""


def _moment(value: object) -> float | None:
    """A time in Beijing as Unix seconds; None for anything else."""
    if not isinstance(value, str) or not _TIME.fullmatch(value):
        return None
    try:
        at = datetime.fromisoformat(f"{value}+08:00").timestamp()
    except ValueError:
        return None
    return at if at > 0 else None
