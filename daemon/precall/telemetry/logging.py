"""Logging for the whole process: one line per event, as text or JSON. Only this module imports structlog.

An event has a stable name such as `route.changed`, and keys that never hold a phone number or a secret. Warnings of
Python are logged too. Repeated events are folded, see `log_dedup`.
"""

import io
import json
import logging
import os
import sys
import threading
from contextlib import suppress
from typing import Any, Literal, TextIO

import structlog

from precall.core.rounding import micro
from precall.telemetry.journal import is_journal, prefixed
from precall.telemetry.log_dedup import LogDedup
from precall.telemetry.log_stream import LogStream
from precall.telemetry.redaction import concealed, masked, without_secrets

_NOISY = (
    *("aiohttp.access", "aiohttp.server", "alembic", "asyncio", "aiosqlite", "markdown_it"),
    *("sqlalchemy", "urllib3"),
)
_MUTE = ("apscheduler",)
"""Loggers whose lines add nothing: `runtime.scheduler` logs failing jobs itself, and overlapping runs are harmless."""


class _Lines(logging.StreamHandler[TextIO]):
    """A handler that writes the records which are not folded."""

    def __init__(self, stream: TextIO, form: str) -> None:
        super().__init__(stream)
        self.form = form
        self.prefixed = is_journal(stream, os.environ)
        self.folding = LogDedup()

    def handle(self, record: logging.LogRecord) -> bool:
        kept = self.folding.fold(record)
        return kept is not None and bool(super().handle(kept))

    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        return prefixed(text, record.levelno) if self.prefixed else text

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802  logging's own name
        """Log in one line that a record could not be formatted, instead of the traceback that logging prints."""
        facts = {"event": "log.unshown", "of": record.name, "where": f"{record.module}:{record.lineno}"}
        facts |= {"level": "error", "error": getattr(sys.exc_info()[0], "__name__", "")}
        line = json.dumps(facts) if self.form == "json" else str(facts)
        with suppress(Exception):
            self.stream.write(f"{prefixed(line, logging.ERROR) if self.prefixed else line}\n")


class _Gathered(io.TextIOBase):
    """Replaces standard error where every line must be JSON: printed lines become events."""

    def __init__(self, beneath: LogStream) -> None:
        self.beneath = beneath
        self._begun = ""

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return self.beneath.encoding

    @property
    def errors(self) -> str:  # type: ignore[override]
        return self.beneath.errors

    def writable(self) -> bool:
        return True

    def write(self, text: str, /) -> int:
        *lines, self._begun = (self._begun + text).split("\n")
        for line in filter(str.strip, lines):
            get_logger("stderr").error(masked(line))
        return len(text)


_IDS = frozenset({"subs_id", "subs_ids", "request_id", "pool", "first", "timestamp"})
"""Keys whose values may be long numbers without being phone numbers."""


def get_logger(name: str) -> Any:
    """Return the logger of a module, to be used as `log.info("domain.event", key=value)`."""
    return structlog.stdlib.get_logger(name)


def configure(
    level: str = "info", form: Literal["text", "json"] = "text", stream: TextIO | None = None
) -> None:
    """Set up every logger of the process, including those of libraries. May be called again at a reload."""
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
    stream = stream or _standard_error(form)
    # Rich tracebacks show local variables, which may hold phone numbers.
    plain = structlog.dev.plain_traceback
    colours = stream.isatty()
    render: Any = (
        structlog.processors.JSONRenderer()
        if form == "json"
        else structlog.dev.ConsoleRenderer(colors=colours, pad_event_to=24, exception_formatter=plain)
    )
    finish = [structlog.processors.format_exc_info, _conceal, render]
    handler = _Lines(stream, form)
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


def leave_out(event: str) -> None:
    """Write no line of this event until `configure` is called again: the command shows it in another way."""

    def wanted(record: logging.LogRecord) -> bool:
        return not (isinstance(record.msg, dict) and record.msg.get("event") == event)

    for handler in logging.getLogger().handlers:
        handler.addFilter(wanted)


def take_over(descriptor: int = 2) -> None:
    """Make standard error of this process neither fail nor block, and log uncaught errors as events.

    That includes errors in threads and destructors. For daemons; call it before `configure`.
    """
    sys.stderr = LogStream(descriptor)
    broken = get_logger("process")
    sys.excepthook = lambda kind, error, trace: broken.critical(
        "process.uncaught", exc_info=(kind, error, trace)
    )
    threading.excepthook = lambda found: broken.error(
        "thread.broken",
        thread=found.thread.name if found.thread else "",
        exc_info=(found.exc_type, found.exc_value, found.exc_traceback),
    )
    sys.unraisablehook = lambda found: broken.error(
        "process.unraisable",
        where=found.err_msg or "Exception ignored",
        of=type(found.object).__name__,
        exc_info=(found.exc_type, found.exc_value, found.exc_traceback),
    )


def is_json() -> bool:
    """Whether standard error holds JSON lines only."""
    return isinstance(sys.stderr, _Gathered)


def _standard_error(form: str) -> TextIO:
    """Return the stream beneath any replacement of standard error; install or remove the replacement as needed."""
    given: Any = sys.stderr
    beneath: Any = given.beneath if isinstance(given, _Gathered) else given
    if isinstance(beneath, LogStream):
        sys.stderr = _Gathered(beneath) if form == "json" else beneath
    return beneath  # type: ignore[no-any-return]


def _conceal(_logger: object, _method: str, event: dict[str, Any]) -> dict[str, Any]:
    """Mask texts of libraries, such as tracebacks and errors, and round floats."""
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
    """Log how often folded events were repeated, once their period is over. `now` is in Unix seconds."""
    for handler in logging.getLogger().handlers:
        if isinstance(handler, _Lines):
            if isinstance(handler.stream, LogStream) and (lost := handler.stream.lost):
                handler.stream.lost = 0
                get_logger(__name__).warning("log.lost", lines=lost, hint="standard error did not take them")
            for event, times in handler.folding.left(now):
                get_logger(__name__).warning("log.folded", of=event, times=times)
