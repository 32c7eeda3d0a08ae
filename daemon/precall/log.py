"""The one home of structlog: one line per event, text or JSON, for every logger of the process.

An event has a stable machine name (`route.changed`) and keys; numbers and secrets are never among them.
"""

import logging
import sys
from typing import Any, Literal, TextIO

import structlog

from precall.secrecy import concealed, without_secrets

_NOISY = ("aiohttp.access", "aiohttp.server", "alembic", "asyncio", "aiosqlite", "sqlalchemy")
_MUTE = ("apscheduler",)
"""What there is to say of jobs `scheduler` says; that one is still at it when it is due again is no news."""


_IDS = frozenset({"subs_id", "request_id", "pool", "first", "timestamp"})
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
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *finish],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for name in _NOISY:
        logging.getLogger(name).setLevel(max(logging.WARNING, root.level))
    for name in _MUTE:
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)


def _conceal(_logger: object, _method: str, event: dict[str, Any]) -> dict[str, Any]:
    """A guard for texts of others: tracebacks, errors, lines of libraries."""
    for key, value in event.items():
        if isinstance(value, str):
            event[key] = (without_secrets if key in _IDS else concealed)(value)
    return event
