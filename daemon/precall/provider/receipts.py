"""Receipts that the provider pushes: SecretReport for each finished call, SecretExceptionPhoneReport for each change
of a number X. Pure.

One address receives every kind of receipt, and none names its kind. Their fields distinguish them:

    SecretExceptionPhoneReport   `noStatus`
    text messages                `call_type` other than 0 (A calls), 1 (A is called), 4 (a call was intercepted):
                                 2 and 3 (sent, received), 5 (intercepted), in reports of every kind
    SecretReport                 a call that is over: `release_time`, with `release_dir`, `release_cause` or
                                 `unconnected_cause`, which say how it was released
    about a call under way       `call_id` without a release: SecretStartReport (`call_time`, `control_type`,
                                 `unconnected_cause`), SecretRingReport (`ring_time`), SecretPickUpReport
                                 (`ringTime`, `start_time`)
    about its recording          SecretRecording and SecretRingRecording (`call_id`, no field that says how it was
                                 released), SecretAsrReport (`callId`, `sentences`)

Only SecretReport ends a call, and only SecretExceptionPhoneReport is about a number.

Sources: the product's pages of receipts (SecretStartReport, SecretReport and its queue twin, SecretPickUpReport,
SecretExceptionPhoneReport, SecretAsrReport), its list of receipt kinds. Elements may come twice and in any order.
Unknown keys are ignored. Ids are numbers or text, times Beijing time without a zone. No phone number of a call is kept.
"""

import re
from collections.abc import Callable, Mapping
from datetime import datetime
from enum import StrEnum
from typing import Any

import orjson

from precall.core import rules
from precall.core.calls.call import Call, CallResult, CallSource, NumberReport
from precall.core.calls.causes import judge_ended, unconnected
from precall.core.duplicate_keys import Contradiction
from precall.core.numbers import clean
from precall.provider.failures import safe_code

_INTERCEPTED = 4
_CALL_TYPES = frozenset({0, 1, _INTERCEPTED})
"""Values of `call_type` that are calls; the others are text messages."""
_RELEASED = ("release_time", "release_dir", "release_cause")
"""Every report of a finished call has one of these, and other receipts have none."""
_HOW = ("release_dir", "release_cause", "unconnected_cause")
_STOPPED = frozenset({1, 2, 3})
"""Values of `unconnected_cause` for calls that the platform itself stopped: blacklist, no binding, restriction.
No network has judged the number then. 0 is none, and 4 is "other", where `release_cause` decides."""
_OTHER = 4
_LONGEST_CAUSE = 1_000_000

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
_WHOLE = re.compile(r"[0-9]{1,18}", re.ASCII)


class IgnoredReceipt(StrEnum):
    """A receipt that is acknowledged but not stored. Its value is a label of `precall_receipts_total`."""

    MESSAGE = "message"
    """A text message, not a call."""
    UNDER_WAY = "under_way"
    """A call has begun, rings or was answered."""
    RECORDING = "recording"
    """The recording of a call, or its text."""
    UNBOUND = "unbound"
    """A call without a binding."""


class BadReceipt(ValueError):
    """An element that cannot be understood. `field` is the field at fault, "" for the whole element."""

    def __init__(self, field: str, detail: str) -> None:
        super().__init__(detail)
        self.field = field

    @property
    def reason(self) -> str:
        """The label of `precall_receipts_refused_total`."""
        return self.field or "element"


def read_receipt(element: object, now: float) -> Call | NumberReport | IgnoredReceipt:
    """Read one element of a pushed array. A `Contradiction` stands for an object with a repeated key.

    `now` is in Unix seconds. Raises BadReceipt.
    """
    if isinstance(element, Contradiction):
        raise BadReceipt("", "holds a key twice")
    if not isinstance(element, dict):
        raise BadReceipt("", "should be an object")
    if "noStatus" in element:
        return _number_report(element)
    if "call_id" in element:
        return _passed(element) or _call(element, now)
    if "callId" in element:
        return IgnoredReceipt.RECORDING
    raise BadReceipt("", "is not a known receipt: it has neither call_id nor noStatus")


def kept(data: Mapping[str, Any], names: tuple[str, ...], **more: str | int) -> str:
    """Return the JSON of those `names` that hold a time, and of `more`: nothing that could be a phone number."""
    times = {
        name: data[name] for name in names if isinstance(data.get(name), str) and _TIME.fullmatch(data[name])
    }
    return orjson.dumps(times | {name: value for name, value in more.items() if value != ""}).decode()


def _passed(element: Mapping[str, Any]) -> IgnoredReceipt | None:
    """Return what to ignore a receipt as, None if it says how a call on a binding ended."""
    call_type = element.get("call_type")
    if call_type not in (None, "") and _whole(call_type) not in _CALL_TYPES:
        return IgnoredReceipt.MESSAGE
    if all(element.get(name) in (None, "") for name in _RELEASED):
        return IgnoredReceipt.UNDER_WAY
    if not any(name in element for name in _HOW):
        return IgnoredReceipt.RECORDING
    return IgnoredReceipt.UNBOUND if element.get("sub_id") in (None, "", 0, "0") else None


def _call(element: Mapping[str, Any], now: float) -> Call:
    call_id = _text(element, "call_id", _is_call_id, "should be 1 to 128 printable characters")
    subs_id = _text(element, "sub_id", rules.is_subs_id, rules.NOT_A_SUBS_ID)
    released = _moment(element.get("release_time"))
    if released is None:
        raise BadReceipt("release_time", 'should be a time such as "2026-01-02 03:04:05"')
    started = _moment(element.get("start_time"))
    called_at = next(
        (at for name in ("call_time", "call_out_time", "start_time") if (at := _moment(element.get(name)))),
        released,
    )
    duration = max(0.0, released - started) if started else 0.0
    cause = _why(element)
    direction = _whole(element.get("release_dir"))
    return Call(
        call_id=call_id,
        called_at=called_at,
        reported_at=now,
        subs_id=subs_id,
        result=CallResult(judge_ended(cause, duration)),
        source=CallSource.RECEIPT,
        state=cause,
        duration=duration,
        detail=kept(element, RECEIPT_FACTS, release_dir="" if direction is None else direction),
    )


def _why(element: Mapping[str, Any]) -> str:
    """Return the code in `causes` for the end of a call.

    A call that the platform stopped never reached the network, whatever its `release_cause` says.
    """
    unmet = _whole(element.get("unconnected_cause")) or 0
    unmet = unmet if unmet < _LONGEST_CAUSE else 0
    if _whole(element.get("call_type")) == _INTERCEPTED:
        return unconnected(unmet or _OTHER)
    if unmet in _STOPPED:
        return unconnected(unmet)
    return _cause(element.get("release_cause")) or unconnected(unmet)


def _number_report(element: Mapping[str, Any]) -> NumberReport:
    number = element.get("secretNo")
    number_x = clean(str(number)) if isinstance(number, str) or type(number) is int else ""
    if not number_x:
        raise BadReceipt("secretNo", "should be a phone number")
    pool_key = element.get("partnerKey") or ""
    if not isinstance(pool_key, str) or (pool_key and not rules.is_pool_key(pool_key)):
        raise BadReceipt("partnerKey", "should be the key of a pool")
    status = _whole(element.get("noStatus"))
    if status not in (0, 1):
        raise BadReceipt("noStatus", "should be 0 (abnormal) or 1 (normal)")
    at = _whole(element.get("timestamp"))
    if at is None:
        raise BadReceipt("timestamp", "should be epoch milliseconds")
    return NumberReport(number_x, pool_key, abnormal=status == 0, at=at / 1000)


def _text(element: Mapping[str, Any], name: str, fits: Callable[[str], bool], hint: str) -> str:
    value = element.get(name)
    text = str(value) if type(value) is int else value
    if not isinstance(text, str) or not fits(text):
        raise BadReceipt(name, hint)
    return text


def _is_call_id(text: str) -> bool:
    return _CALL_ID.fullmatch(text) is not None


def _whole(value: object) -> int | None:
    """Return a whole number, also one given as text; None for anything else."""
    if type(value) is int:
        return value if 0 <= value < 10**18 else None
    return int(value) if isinstance(value, str) and _WHOLE.fullmatch(value) else None


def _cause(value: object) -> str:
    """Return a cause code, "" for none or 0. A longer value also gives "", since it could be a phone number."""
    whole = _whole(value)
    if whole is not None:
        return str(whole) if 0 < whole < _LONGEST_CAUSE else ""
    return safe_code(value) if isinstance(value, str) else ""


def _moment(value: object) -> float | None:
    """Return a Beijing time as Unix seconds; None for anything else."""
    if not isinstance(value, str) or not _TIME.fullmatch(value):
        return None
    try:
        at = datetime.fromisoformat(f"{value}+08:00").timestamp()
    except ValueError:
        return None
    return at if at > 0 else None
