"""Standard error for a daemon: a write never raises, and never waits for a reader that has stopped reading.

Lines go straight to the descriptor while it accepts them. Otherwise (a full pipe, a stopped terminal, a hanging
collector) they are queued up to a bound, and a thread writes them. Beyond the bound, and while a disk is full, they are
dropped and counted. The check loop never waits.
"""

import atexit
import errno
import io
import os
import select
import stat
import threading
from collections import deque

MOST = 4 * 1024 * 1024
"""Bytes that may be queued for a slow reader."""
AT_ONCE = 4096
"""Bytes that a ready pipe accepts without blocking (PIPE_BUF on Linux)."""
FAREWELL = 1.0
"""Seconds to wait for the queue at the end of the process."""


class LogStream(io.TextIOBase):
    """Text lines to `descriptor`, as UTF-8. `lost` counts the writes that were dropped."""

    def __init__(self, descriptor: int, most: int = MOST) -> None:
        self._descriptor, self._most = descriptor, most
        self._plain = stat.S_ISREG(os.fstat(descriptor).st_mode)
        self._ready = select.poll()
        self._ready.register(descriptor, select.POLLOUT)
        self._lock = threading.Lock()
        self._queue: deque[bytes] = deque()
        self._queued = 0
        self._drainer: threading.Thread | None = None
        self._in_line = self._torn = False
        self.lost = 0
        atexit.register(self.finish)

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """Always UTF-8."""
        return "utf-8"

    @property
    def errors(self) -> str:  # type: ignore[override]
        """How characters without a UTF-8 form are written."""
        return "backslashreplace"

    def writable(self) -> bool:
        """Always true."""
        return True

    def fileno(self) -> int:
        """The descriptor."""
        return self._descriptor

    def isatty(self) -> bool:
        """Whether the descriptor is a terminal."""
        return os.isatty(self._descriptor)

    def write(self, text: str, /) -> int:
        """Write, queue or drop the text, and return its length in any case."""
        data = text.encode("utf-8", "backslashreplace")
        with self._lock:
            if self._drainer is None:
                data = self._written(data)
            if data:
                self._enqueue(data)
        return len(text)

    def flush(self) -> None:
        """Do nothing: the queue empties as fast as its reader allows."""

    def finish(self, patience: float = FAREWELL) -> None:
        """Wait up to `patience` seconds for the queue to empty."""
        drainer = self._drainer
        if drainer is not None:
            drainer.join(patience)

    def _written(self, data: bytes) -> bytes:
        """Write what is possible without waiting, and return the rest. Data that can never be written is dropped."""
        if self._torn:
            data, self._torn = b"\n" + data, False
        while data and self._ready.poll(0):
            try:
                done = os.write(self._descriptor, data if self._plain else data[:AT_ONCE])
            except OSError as error:
                if error.errno in (errno.EAGAIN, errno.EINTR):
                    break
                self._drop()
                return b""
            self._in_line = data[done - 1 : done] != b"\n"
            data = data[done:]
        return data

    def _enqueue(self, data: bytes) -> None:
        if self._queued + len(data) > self._most:
            self._drop()
            return
        self._queue.append(data)
        self._queued += len(data)
        if self._drainer is None:
            self._drainer = threading.Thread(target=self._drain, name="log queue", daemon=True)
            self._drainer.start()

    def _drop(self) -> None:
        self.lost += 1
        if self._drainer is None or not self._queue:
            self._torn = self._in_line

    def _drain(self) -> None:
        rest = b""
        while True:
            self._ready.poll()
            with self._lock:
                if not rest:
                    if not self._queue:
                        self._drainer = None
                        return
                    rest = self._queue.popleft()
                    self._queued -= len(rest)
                rest = self._written(rest)
