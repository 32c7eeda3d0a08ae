"""Deduplication of warnings and errors: the first few of a kind are written, the rest are counted.

A failure that affects everyone repeats hundreds of times a second, and would hide everything else in the log.
"""

import copy
import logging
from collections.abc import Iterator
from dataclasses import dataclass

PERIOD = 300.0
"""Seconds during which records of one kind are counted together."""
ALIKE = 5
"""How many records of one kind are written in a period."""
APART = ("pool", "job", "of", "target")
"""Keys with closed sets of values that distinguish kinds: every pool, job and target is counted by itself."""

Kind = tuple[object, ...]


@dataclass(slots=True)
class _Period:
    since: float
    times: int = 1
    folded: int = 0


class LogDedup:
    """Counts records by kind: logger, event and the keys of `APART`, or the source line for records of libraries.

    Records below a warning are always new, and critical ones are rare: both pass. Times are those of the records. When
    the clock is set, in either direction, the current periods end.
    """

    def __init__(self) -> None:
        self._periods: dict[Kind, _Period] = {}

    def fold(self, record: logging.LogRecord) -> logging.LogRecord | None:
        """Return the record to be written, or None.

        The first record of a new period says how many were `folded` before it. Only the first has its traceback.
        """
        if not logging.WARNING <= record.levelno < logging.CRITICAL:
            return record
        kind = _kind(record)
        period = self._periods.get(kind)
        if period is None or abs(record.created - period.since) >= PERIOD:
            self._periods[kind] = _Period(record.created)
            return record if period is None or not period.folded else _with(record, folded=period.folded)
        if period.times >= ALIKE:
            period.folded += 1
            return None
        period.times += 1
        return _without_traceback(record)

    def left(self, now: float) -> Iterator[tuple[str, int]]:
        """Yield the event and count of folded records whose period is over, each once. `now` is in Unix seconds."""
        for kind, period in list(self._periods.items()):
            if abs(now - period.since) >= PERIOD:
                del self._periods[kind]
                if period.folded:
                    yield str(kind[1]), period.folded


def _kind(record: logging.LogRecord) -> Kind:
    if isinstance(record.msg, dict):
        facts = record.msg
        return (record.name, facts.get("event"), *(facts.get(name) for name in APART))
    return (record.name, f"{record.name}:{record.funcName}", record.pathname, record.lineno)


def _with(record: logging.LogRecord, **facts: int) -> logging.LogRecord:
    record = copy.copy(record)
    if isinstance(record.msg, dict):
        record.msg = record.msg | facts
    else:
        record.__dict__ |= facts
    return record


def _without_traceback(record: logging.LogRecord) -> logging.LogRecord:
    record = copy.copy(record)
    record.exc_info = record.exc_text = None
    if isinstance(record.msg, dict):
        record.msg = {name: value for name, value in record.msg.items() if name != "exc_info"}
    return record
