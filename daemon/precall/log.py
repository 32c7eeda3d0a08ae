"""The one home of structlog: one line per event, text or JSON, for every logger of the process.

An event has a stable machine name (`route.changed`) and keys; numbers and secrets are never among them.
"""

import logging
import sys
from typing import Any, Literal, TextIO

import structlog

_NOISY = ("aiohttp.access", "aiohttp.server", "alembic", "asyncio", "aiosqlite", "sqlalchemy")
_MUTE = ("apscheduler",)
"""What there is to say of jobs `scheduler` says; that one is still at it when it is due again is no news."""


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
    finish: list[Any] = (
        [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
        if form == "json"
        # Plain tracebacks: the pretty ones show local variables, and those hold numbers.
        else [
            structlog.dev.ConsoleRenderer(
                colors=stream.isatty(), pad_event_to=24, exception_formatter=structlog.dev.plain_traceback
            )
        ]
    )
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
