"""Standard input, output and error, which may be closed, full, broken, or unable to encode a character.

A closed descriptor is occupied, so that no socket or database file gets its number and what is printed. Data that
cannot be written is an `OutputError`; remarks on standard error are dropped.
"""

import codecs
import errno
import io
import os
import signal
import sys

from precall.core.errors import OutputError
from precall.private_files import Output

OUTPUT = "standard output"


class _Remarks(io.FileIO):
    """Standard error that ignores failed writes."""

    def write(self, data: object, /) -> int:
        """Write as FileIO does. A failed write counts as done."""
        try:
            return super().write(data)  # type: ignore[arg-type]
        except OSError:
            return memoryview(data).nbytes  # type: ignore[arg-type]


def prepare() -> None:
    """Set up the three streams. Call it once, before anything is opened."""
    # Opened the wrong way round, so that using them fails rather than seems to succeed.
    _occupy(0, os.O_WRONLY)
    _occupy(1, os.O_RDONLY)
    _occupy(2, os.O_WRONLY)
    sys.stdin = sys.stdin or open(0, encoding="utf-8", closefd=False)  # noqa: SIM115  a descriptor
    encoding = sys.stdout.encoding if sys.stdout else "utf-8"
    errors = sys.stdout.errors if sys.stdout else None
    sys.stdout = io.TextIOWrapper(
        io.BufferedWriter(Output(1, OUTPUT, closefd=False)),
        encoding=encoding,
        errors=errors if errors not in (None, "strict", "surrogateescape") else "replace",
        line_buffering=os.isatty(1),
    )
    sys.stderr = io.TextIOWrapper(
        io.BufferedWriter(_Remarks(2, "wb", closefd=False)),
        encoding=sys.stderr.encoding if sys.stderr else "utf-8",
        errors="backslashreplace",
        line_buffering=True,
    )


def is_utf8() -> bool:
    """Whether standard output can encode every character."""
    try:
        return codecs.lookup(getattr(sys.stdout, "encoding", None) or "utf-8").name == "utf-8"
    except LookupError:
        return False


def close_replaced(error: OutputError) -> None:
    """Stop writing to standard output if it caused this error. If its reader has gone, end as SIGPIPE would."""
    if not str(error).startswith(OUTPUT):
        return
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.close(null)
    if error.errno == errno.EPIPE:
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        signal.raise_signal(signal.SIGPIPE)


def _occupy(descriptor: int, flags: int) -> None:
    try:
        os.fstat(descriptor)
    except OSError:
        null = os.open(os.devnull, flags)
        if null == descriptor:
            os.set_inheritable(null, True)
        else:
            os.dup2(null, descriptor)
            os.close(null)
