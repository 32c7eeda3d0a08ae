"""Converts rows of the customer's query into bindings, and validates columns and values.

The rules are those of a registration over the API. Each row is validated by itself, so that one mistake does not hide
the others. No error text repeats a value, which may be a phone number.
"""

import difflib
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from decimal import Decimal
from math import isfinite

from precall.core import rules
from precall.core.errors import ConfigError
from precall.core.model import Binding
from precall.core.numbers import NumberFault, clean, fault, mistake

REQUIRED = ("subs_id", "pool_key", "number_x", "number_a")
OPTIONAL = ("number_b", "extension", "expires_at", "labels")
CHANGED = "changed_at"
"""The column of an incremental query that holds the time of a row's latest change."""
LABEL = "label_"
ORIGIN = "source"

_LEAP = re.compile(r"(.{10}[T ]\d\d:\d\d:)60(?:\.\d+)?(.*)", re.ASCII)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row that cannot be used as a binding. `subs_id` is "" when the row has none, None when it is unreadable."""

    subs_id: str | None
    column: str
    text: str
    unsound: bool = False
    """Whether an earlier version accepted such a row. A binding made from it must not be dialled unchanged."""


@dataclass(frozen=True, slots=True)
class Undecodable:
    """A value that the driver could not decode; `why` repeats nothing of it."""

    why: str


class _BadValue(Exception):
    """An invalid value. `unsound` is as in `BadRow`."""

    def __init__(self, text: str, *, unsound: bool = False) -> None:
        super().__init__(text)
        self.unsound = unsound


class Columns:
    """The columns of a query. `zone` applies to times without one (None: not configured).

    Column names are those of a binding, in upper or lower case. Each further column `label_*` is a label. An
    `incremental` query also has `changed_at`. Raises ConfigError that lists every missing, unknown or repeated name.
    """

    def __init__(self, names: Sequence[str], zone: tzinfo | None, *, incremental: bool = False) -> None:
        known = [name.lower() for name in names]
        if found := _mistakes(known, incremental=incremental):
            raise ConfigError(found)
        self._indexes = {name: index for index, name in enumerate(known)}
        self._labels = [
            (name.removeprefix(LABEL), index)
            for name, index in self._indexes.items()
            if name.startswith(LABEL)
        ]
        self._zone = zone

    def read(self, values: Sequence[object]) -> Binding | BadRow:
        """The binding of one row, with times in Unix seconds.

        Raises ConfigError for a time without a zone when none is configured, since that affects every row.
        """
        subs_id: str | None = None
        column = "subs_id"
        facts: dict[str, str] = {}
        try:
            subs_id = _id(values[self._indexes[column]])
            if not subs_id:
                return BadRow(subs_id, column, "is empty: the row names no binding")
            for column, rule in _RULES.items():
                facts[column] = rule(self._value(values, column))
            column = "expires_at"
            end = _seconds(self._value(values, column), self._zone)
            column = "labels"
            labels = self._labels_of(values)
        except _BadValue as bad:
            return BadRow(subs_id, column, str(bad), unsound=bad.unsound)
        if wrong := mistake(facts["number_x"], facts["number_a"], facts["number_b"]):
            return BadRow(subs_id, *wrong, unsound=True)
        return Binding(subs_id=subs_id, expires_at=end, labels=labels, origin=ORIGIN, **facts)  # type: ignore[arg-type]

    def changed_at(self, values: Sequence[object]) -> object:
        """The time of the row's latest change, as the source gave it; None for none."""
        return self._value(values, CHANGED)

    def _value(self, values: Sequence[object], column: str) -> object:
        index = self._indexes.get(column)
        return None if index is None else values[index]

    def _labels_of(self, values: Sequence[object]) -> tuple[tuple[str, str], ...]:
        labels = _json_labels(self._value(values, "labels"))
        labels |= {key: _text(values[index]) for key, index in self._labels if values[index] is not None}
        if wrong := rules.fault_of_labels(labels):
            raise _BadValue(wrong)
        return tuple(sorted(labels.items()))


def _mistakes(names: Sequence[str], *, incremental: bool) -> list[str]:
    needed = (*REQUIRED, CHANGED) if incremental else REQUIRED
    known = [*needed, *OPTIONAL]
    unknown = [name for name in names if name not in known and not name.startswith(LABEL)]
    found = []
    for name in needed:
        if name in names:
            continue
        near = difflib.get_close_matches(name, unknown, 1)
        unknown = [other for other in unknown if other not in near]
        hint = f"; write {near[0]} AS {name}" if near else ""
        found.append(f"source.query: returns no column {name}{hint}")
    for name in unknown:
        if name == CHANGED:
            found.append(
                "source.query: returns changed_at, which belongs to a query with :since; leave it out"
            )
            continue
        near = difflib.get_close_matches(name, known, 1)
        hint = f"did you mean {near[0]}?" if near else f"leave it out, or call it {LABEL}{name}"
        found.append(f"source.query: returns an unknown column {name}; {hint}")
    twice = sorted({name for name in names if names.count(name) > 1})
    return found + [f"source.query: returns the column {name} twice" for name in twice]


def _text(value: object) -> str:
    """The value as text without padding; integers with all their digits."""
    match value:
        case None:
            return ""
        case str():
            return value.strip()
        case Undecodable():
            raise _BadValue(value.why)
        case bool():
            raise _BadValue("is true or false, and should be text")
        case int():
            return str(value)
        case Decimal() if value.is_finite() and value.adjusted() < 40 and value == value.to_integral_value():
            return str(int(value))
        case float() | Decimal():
            raise _BadValue(
                "is a floating-point number, which does not hold every digit: cast it to text in the query"
            )
        case _:
            raise _BadValue(f"is of type {type(value).__name__}: cast it to text in the query")


def _id(value: object) -> str:
    text = _text(value)
    if text and not rules.is_subs_id(text):
        raise _BadValue(rules.NOT_A_SUBS_ID)
    return text


def _pool_key(value: object) -> str:
    text = _text(value)
    if not rules.is_pool_key(text):
        raise _BadValue(rules.NOT_A_POOL_KEY)
    return text


def _number(value: object) -> str:
    text = _text(value)
    if wrong := fault(text):
        raise _BadValue(str(wrong), unsound=wrong is not NumberFault.SHAPE)
    return clean(text)


def _number_or_none(value: object) -> str:
    return "" if _text(value) == "" else _number(value)


def _extension(value: object) -> str:
    text = _text(value)
    if not rules.is_extension(text):
        raise _BadValue(rules.NOT_AN_EXTENSION)
    return text


_RULES: dict[str, Callable[[object], str]] = {
    "pool_key": _pool_key,
    "number_x": _number,
    "number_a": _number,
    "number_b": _number_or_none,
    "extension": _extension,
}


def _seconds(value: object, zone: tzinfo | None) -> float | None:
    """Whole Unix seconds, as over the API; None for no end. Numbers are taken as Unix seconds."""
    match value:
        case None:
            return None
        case Undecodable():
            raise _BadValue(value.why)
        case bool():
            raise _BadValue("is true or false, and should be a time")
        case int() | float() | Decimal():
            if not isfinite(value) or not rules.is_time(value):
                raise _BadValue("is no Unix time in seconds before the year 10000 (milliseconds?)")
            return float(int(value))
        case datetime():
            return _instant(value, zone)
        case str():
            return _instant(_moment(value.strip()), zone) if value.strip() else None
        case _:
            raise _BadValue(f"is of type {type(value).__name__}, and should be a time")


def _moment(text: str) -> datetime:
    if len(text) < len("2030-01-31T12:00"):
        raise _BadValue("should be a time such as 2030-01-31T12:00:00+08:00")
    text = text.upper()
    leap = _LEAP.fullmatch(text)
    try:
        if leap:  # the first second after it
            return datetime.fromisoformat(f"{leap[1]}59{leap[2]}") + timedelta(seconds=1)
        return datetime.fromisoformat(text)
    except (ValueError, OverflowError):
        raise _BadValue("should be a time such as 2030-01-31T12:00:00+08:00") from None


def _instant(moment: datetime, zone: tzinfo | None) -> float:
    if moment.utcoffset() is None:
        if zone is None:
            raise ConfigError(
                ['source.timezone: expires_at carries no zone; name it, such as timezone = "Asia/Shanghai"']
            )
        moment = moment.replace(tzinfo=zone)
    try:
        seconds = (moment - _EPOCH) // timedelta(seconds=1)
    except OverflowError:
        raise _BadValue(rules.NOT_A_TIME) from None
    if not rules.is_time(seconds):
        raise _BadValue(rules.NOT_A_TIME)
    return float(seconds)


def _json_labels(value: object) -> dict[str, str]:
    if isinstance(value, Undecodable):
        raise _BadValue(value.why)
    if isinstance(value, str):
        value = value.strip() or "{}"
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            raise _BadValue("are no JSON") from None
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise _BadValue('should be a JSON object of texts, such as {"city": "Hangzhou"}')
    return {str(key): _text(text) for key, text in value.items()}
