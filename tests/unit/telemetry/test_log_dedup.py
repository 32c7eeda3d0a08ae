"""Similar log lines: some are written, the rest counted, and the count is logged."""

import logging
from typing import Any

from precall.telemetry.log_dedup import ALIKE, PERIOD, LogDedup


def record(
    at: float, event: str = "check.broken", level: int = logging.ERROR, **facts: Any
) -> logging.LogRecord:
    made = logging.LogRecord("precall.checker", level, "p.py", 7, {"event": event, **facts}, None, None)
    made.created = at
    return made


def foreign(at: float, text: str, line: int = 7) -> logging.LogRecord:
    made = logging.LogRecord("asyncio", logging.ERROR, "p.py", line, text, None, None)
    made.created = at
    return made


def facts(folding: LogDedup, one: logging.LogRecord) -> dict[str, Any] | None:
    kept = folding.fold(one)
    return None if kept is None else kept.msg  # type: ignore[return-value]


def test_repeated_lines_are_folded_and_counted() -> None:
    folding = LogDedup()
    written = [facts(folding, record(n * 0.01)) for n in range(100)]
    assert sum(one is not None for one in written) == ALIKE
    assert facts(folding, record(PERIOD)) == {"event": "check.broken", "folded": 100 - ALIKE}
    assert facts(folding, record(PERIOD + 1)) == {"event": "check.broken"}


def test_only_the_first_has_its_traceback() -> None:
    folding, error = LogDedup(), ValueError()
    assert facts(folding, record(0.0, exc_info=error)) == {"event": "check.broken", "exc_info": error}
    again = record(1.0, exc_info=error)
    assert facts(folding, again) == {"event": "check.broken"}
    assert again.msg["exc_info"] is error, "what others make of the record is theirs"  # type: ignore[index]


def test_lines_are_folded_by_event_and_pool() -> None:
    folding = LogDedup()
    for n in range(100):
        folding.fold(record(0.0, subs_id=str(n)))
    assert folding.fold(record(0.0, subs_id="x")) is None
    assert folding.fold(record(0.0, event="store.down")) is not None
    assert folding.fold(record(0.0, pool="FC1")) is not None


def test_lines_of_libraries_are_folded_by_their_source_line() -> None:
    folding = LogDedup()
    kept = [folding.fold(foreign(0.0, f"Task {n} failed")) for n in range(100)]
    assert sum(one is not None for one in kept) == ALIKE
    assert folding.fold(foreign(0.0, "another", line=8)) is not None
    later = folding.fold(foreign(PERIOD, "Task failed"))
    assert later is not None
    assert later.__dict__["folded"] == 100 - ALIKE


def test_debug_info_and_critical_lines_are_never_folded() -> None:
    folding = LogDedup()
    for level in (logging.DEBUG, logging.INFO, logging.CRITICAL):
        assert all(folding.fold(record(0.0, level=level)) for _ in range(100))


def test_a_folded_count_is_reported_once_after_the_period() -> None:
    folding = LogDedup()
    for _ in range(9):
        folding.fold(record(0.0))
    assert list(folding.left(PERIOD - 1)) == []
    assert list(folding.left(PERIOD)) == [("check.broken", 9 - ALIKE)]
    assert list(folding.left(2 * PERIOD)) == []
