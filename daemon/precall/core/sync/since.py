"""The `:since` of an incremental query: where it stands in the query, and which literal replaces it.

The literal is made from a change time that the source itself gave, in the form in which it gave it. Neither precall's
clock nor its zone is part of it, so a source may stamp its rows by any clock and keep times in any type. Replacing text
instead of binding a parameter lets the database find the type, which differs by column and driver.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from math import ceil, isfinite

AHEAD = 2 * 86_400.0
"""Seconds by which a change time may be ahead of the clock here. A later one is a mistake: it would hide all others."""

_NUMBER, _TIME = "0", "'1970-01-01 00:00:00'"
_STANDARD = r"'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"|--[^\n]*|/\*.*?\*/"
_POSTGRESQL = (
    r"\b[eE]'(?:[^'\\]|\\.|'')*'|" + _STANDARD + r"|\$(?P<tag>(?:[A-Za-z_]\w*)?)\$.*?\$(?P=tag)\$|::\w+"
)
_MYSQL = r"'(?:[^'\\]|\\.|'')*'|\"(?:[^\"\\]|\\.|\"\")*\"|`[^`]*`|--(?=\s|$)[^\n]*|#[^\n]*|/\*.*?\*/"
_SKIPPED = {"postgresql": _POSTGRESQL, "mysql": _MYSQL}
_WRITTEN = re.compile(r"(\d{4}-\d\d-\d\d)([T ])(\d\d:\d\d)(:\d\d)?(\.\d{1,6})?\d*(.*)", re.ASCII | re.DOTALL)

ChangeValue = datetime | str | int | float | Decimal
"""A change time as the source gave it: a time, its text, or Unix seconds."""


@dataclass(frozen=True, slots=True)
class SinceQuery:
    """A query, divided at each `:since` outside of strings, quoted names and comments."""

    parts: Sequence[str]

    @classmethod
    def of(cls, query: str, backend: str) -> "SinceQuery":
        """Divide a query for this kind of database."""
        skipped = _SKIPPED.get(backend, f"{_STANDARD}|`[^`]*`")
        token = re.compile(rf"(?:{skipped})|(?<![:\w])(?P<since>:since)\b", re.DOTALL)
        parts, at = [], 0
        for found in token.finditer(query):
            if found["since"]:
                parts.append(query[at : found.start()])
                at = found.end()
        return cls((*parts, query[at:]))

    @property
    def incremental(self) -> bool:
        """Whether the query has a `:since`."""
        return len(self.parts) > 1

    def text(self, literal: str) -> str:
        """Return the query with this literal in place of each `:since`."""
        return literal.join(self.parts)


def everything(backend: str) -> tuple[str, ...]:
    """Return the literals before every change time, one of which fits the column. The likely one comes first."""
    # SQLite and MySQL compare anything with 0; others reject it where a time is due, and a time where a number is.
    return (_NUMBER,) if backend in ("sqlite", "mysql") else (_TIME, _NUMBER)


@dataclass(frozen=True, slots=True)
class NewestChange:
    """The newest change time seen: as the source gave it, and in Unix seconds by its own clock, to compare."""

    value: ChangeValue | None = None
    at: float = 0.0

    def after(self, value: object, latest: float) -> "NewestChange":
        """Return the newer of this and `value`. NULL is no change time, nor is one later than `latest` (Unix seconds).

        Raises ValueError for anything else that is not a time.
        """
        if value is None or value == "":
            return self
        found, at = _instant(value)
        return (
            NewestChange(found, at)
            if self.at < at <= latest or (self.value is None and at <= latest)
            else self
        )

    def literal(self, look_back: float) -> str:
        """Return the literal for this time minus `look_back` seconds. Raises AssertionError without a time."""
        value = self.value
        match value:
            case None:
                raise AssertionError("no change time was seen yet")
            case datetime():
                return f"'{_earlier(value, look_back).isoformat(sep=' ')}'"
            case str():
                return f"'{_shifted(value, look_back)}'"
            case int():
                return str(value - ceil(look_back))
            case Decimal():
                return f"{value - Decimal(str(look_back)):f}"
            case _:
                return repr(value - look_back)


_NOT_A_TIME = "should be a time such as 2030-01-31 12:00:00, or Unix seconds"


def _instant(value: object) -> tuple[ChangeValue, float]:
    match value:
        case bool():
            raise ValueError("is true or false, and should be a time")
        case datetime():
            return value, _seconds(value)
        case int() | float() | Decimal() if isfinite(value):
            return value, float(value)
        case str():
            text = value.strip()
            if (written := _WRITTEN.fullmatch(text)) is None or "'" in text or "\\" in text:
                raise ValueError(_NOT_A_TIME)
            try:
                return text, _seconds(
                    datetime.fromisoformat("".join(part or "" for part in written.groups()))
                )
            except ValueError:
                raise ValueError(_NOT_A_TIME) from None
        case _:
            raise ValueError(_NOT_A_TIME)


def _seconds(moment: datetime) -> float:
    """Unix seconds. A time without a zone is compared with its like alone, so any zone will do."""
    return (moment if moment.utcoffset() is not None else moment.replace(tzinfo=UTC)).timestamp()


def _earlier(moment: datetime, seconds: float) -> datetime:
    try:
        return moment - timedelta(seconds=seconds)
    except OverflowError:
        return moment.replace(year=1970, month=1, day=1)


def _shifted(text: str, seconds: float) -> str:
    """Return a written time that many seconds earlier, in the same form: SQLite compares text."""
    written = _WRITTEN.fullmatch(text)
    if written is None:
        raise AssertionError("a change time was read before")
    day, between, minutes, second, fraction, zone = written.groups(default="")
    moment = _earlier(datetime.fromisoformat(f"{day} {minutes}{second}{fraction}"), seconds)
    shown = moment.isoformat(sep=between, timespec="microseconds")
    length = len(day) + 1 + len(minutes) + len(second) + len(fraction)
    return shown[:length] + zone
