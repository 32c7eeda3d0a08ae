"""The one home of structlog: one line per event, text or JSON, for every logger of the process and for warnings.

An event has a stable machine name (`route.changed`) and keys; numbers and secrets are never among them. What is told
again and again is folded (`folding`).
"""

import io
import json
import logging
import sys
import threading
from contextlib import suppress
from typing import Any, Literal, TextIO

import structlog

from precall.core.rounding import micro
from precall.telemetry.log_dedup import LogDedup
from precall.telemetry.log_stream import LogStream
from precall.telemetry.redaction import concealed, masked, without_secrets

_NOISY = ("aiohttp.access", "aiohttp.server", "alembic", "asyncio", "aiosqlite", "sqlalchemy")
_MUTE = ("apscheduler",)
"""What there is to say of jobs `scheduler` says; that one is still at it when it is due again is no news."""


class _Lines(logging.StreamHandler[TextIO]):
    """Writes what is not folded."""

    def __init__(self, stream: TextIO, form: str) -> None:
        super().__init__(stream)
        self.form = form
        self.folding = LogDedup()

    def handle(self, record: logging.LogRecord) -> bool:
        kept = self.folding.fold(record)
        return kept is not None and bool(super().handle(kept))

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802  logging's own name
        """Name a record that cannot be shown, in one line instead of logging's own traceback."""
        facts = {"event": "log.unshown", "of": record.name, "where": f"{record.module}:{record.lineno}"}
        facts |= {"level": "error", "error": getattr(sys.exc_info()[0], "__name__", "")}
        with suppress(Exception):
            self.stream.write(f"{json.dumps(facts) if self.form == 'json' else facts}\n")


class _Gathered(io.TextIOBase):
    """Stands in for standard error where every line is JSON: what anybody prints there becomes an event."""

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
    stream = stream or _standard_error(form)
    # Plain tracebacks: the pretty ones show local variables, and those hold numbers.
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


def take_over(descriptor: int = 2) -> None:
    """Make this process's standard error one that neither fails nor blocks, and log what would be printed there: errors
    that nobody caught, in threads and destructors too. For daemons; to be called before `configure`."""
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
    """Whether standard error is to hold JSON lines alone."""
    return isinstance(sys.stderr, _Gathered)


def _standard_error(form: str) -> TextIO:
    """Where lines go: past what stands in for standard error, which is put up or taken down as `form` wants it."""
    given: Any = sys.stderr
    beneath: Any = given.beneath if isinstance(given, _Gathered) else given
    if isinstance(beneath, LogStream):
        sys.stderr = _Gathered(beneath) if form == "json" else beneath
    return beneath  # type: ignore[no-any-return]


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
            if isinstance(handler.stream, LogStream) and (lost := handler.stream.lost):
                handler.stream.lost = 0
                get_logger(__name__).warning("log.lost", lines=lost, hint="standard error did not take them")
            for event, times in handler.folding.left(now):
                get_logger(__name__).warning("log.folded", of=event, times=times)
