"""Warnings and errors of one kind, again and again: some are written, the rest are counted.

What fails for everybody fails hundreds of times a second; a log that says so each time hides what else it says.
"""

import copy
import logging
from collections.abc import Iterator
from dataclasses import dataclass

PERIOD = 300.0
"""Seconds for which lines of one kind are counted together."""
ALIKE = 5
"""Lines of one kind that are written within them."""
APART = ("pool", "job", "of")
"""Facts from closed sets that make an event another kind: each pool, each job has its say."""

Kind = tuple[object, ...]


@dataclass(slots=True)
class _Told:
    since: float
    times: int = 1
    folded: int = 0


class LogDedup:
    """Counts records by their kind: logger, event and `APART` facts; for other libraries' the line they come from. What
    is less than a warning is news each time, what is critical is rare: both pass. Times are those of the records; where
    the clock is set, either way, what was being folded ends."""

    def __init__(self) -> None:
        self._told: dict[Kind, _Told] = {}

    def fold(self, record: logging.LogRecord) -> logging.LogRecord | None:
        """The record as it is to be written, or None. The first after a while says how many were `folded` before it;
        a traceback comes with the first only."""
        if not logging.WARNING <= record.levelno < logging.CRITICAL:
            return record
        kind = _kind(record)
        told = self._told.get(kind)
        if told is None or abs(record.created - told.since) >= PERIOD:
            self._told[kind] = _Told(record.created)
            return record if told is None or not told.folded else _with(record, folded=told.folded)
        if told.times >= ALIKE:
            told.folded += 1
            return None
        told.times += 1
        return _without_traceback(record)

    def left(self, now: float) -> Iterator[tuple[str, int]]:
        """What was folded and nothing of its kind came after it to say so: (event, times). Each is given once."""
        for kind, told in list(self._told.items()):
            if abs(now - told.since) >= PERIOD:
                del self._told[kind]
                if told.folded:
                    yield str(kind[1]), told.folded


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
