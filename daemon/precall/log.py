"""The one home of structlog: one line per event, text or JSON, for every logger of the process and for warnings.

An event has a stable machine name (`route.changed`) and keys; numbers and secrets are never among them. What is told
again and again is folded (`folding`).
"""

import logging
import sys
from typing import Any, Literal, TextIO

import structlog

from precall.core.rounding import micro
from precall.folding import Folding
from precall.secrecy import concealed, masked, without_secrets

_NOISY = ("aiohttp.access", "aiohttp.server", "alembic", "asyncio", "aiosqlite", "sqlalchemy")
_MUTE = ("apscheduler",)
"""What there is to say of jobs `scheduler` says; that one is still at it when it is due again is no news."""


class _Lines(logging.StreamHandler[TextIO]):
    """Writes what is not folded."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__(stream)
        self.folding = Folding()

    def handle(self, record: logging.LogRecord) -> bool:
        kept = self.folding.fold(record)
        return kept is not None and bool(super().handle(kept))


_IDS = frozenset({"subs_id", "subs_ids", "request_id", "pool", "first", "timestamp"})
"""Keys whose values may be long numbers, none of them a phone's."""


def get_logger(name: str) -> Any:
    """A logger for one module; `log.info("domain.event", key=value)`."""
    return structlog.stdlib.get_logger(name)


def configure(
    level: str = "info", form: Literal["text", "json"] = "text", stream: TextIO | None = None
) -> None:
    """Set up every logger of the process, third-party ones too. May be called again at a reload."""
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )
    stream = stream or sys.stderr
    # Plain tracebacks: the pretty ones show local variables, and those hold numbers.
    plain = structlog.dev.plain_traceback
    colours = stream.isatty()
    render: Any = (
        structlog.processors.JSONRenderer()
        if form == "json"
        else structlog.dev.ConsoleRenderer(colors=colours, pad_event_to=24, exception_formatter=plain)
    )
    finish = [structlog.processors.format_exc_info, _conceal, render]
    handler = _Lines(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *finish],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    logging.captureWarnings(capture=True)
    for name in _NOISY:
        logging.getLogger(name).setLevel(max(logging.WARNING, root.level))
    for name in _MUTE:
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)


def _conceal(_logger: object, _method: str, event: dict[str, Any]) -> dict[str, Any]:
    """A guard for texts of others: tracebacks, errors, lines of libraries. And for the many digits of a float."""
    for key, value in event.items():
        guard = without_secrets if key in _IDS else masked if key == "exception" else concealed
        if isinstance(value, str):
            event[key] = guard(value)
        elif isinstance(value, float):
            event[key] = micro(value)
        elif isinstance(value, list):
            event[key] = [guard(one) if isinstance(one, str) else one for one in value]
    return event


def tell_folded(now: float) -> None:
    """Say how often what was folded came again, where nothing else will. `now` is the wall clock (Unix seconds)."""
    for handler in logging.getLogger().handlers:
        if isinstance(handler, _Lines):
            for event, times in handler.folding.left(now):
                get_logger(__name__).warning("log.folded", of=event, times=times)
