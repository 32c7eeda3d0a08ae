"""What systemd is told of the daemon's life (sd_notify): ready, reloading, stopping, and that it still works.

A datagram per word to the socket that the service manager names; without one nothing is sent. That it does not get
through is told once and stops nothing.
"""

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Callable, MutableMapping
from contextlib import asynccontextmanager
from typing import Self

from precall.concurrency import cancel_and_wait
from precall.telemetry.logging import get_logger

log = get_logger(__name__)

PULSE = 1.0
PATIENCE = 0.5
"""Seconds to wait for room in the manager's queue: what it expects to hear must not be lost because it is busy."""


class SystemdNotifier:
    """The service manager at `address`: a path, or "@name" in the abstract namespace; "" for none. It expects to hear
    something every `watchdog` seconds, 0 for nothing."""

    def __init__(
        self, address: str = "", watchdog: float = 0.0, monotonic: Callable[[], float] = lambda: 0.0
    ) -> None:
        self._address = f"\0{address[1:]}" if address.startswith("@") else address
        self._watchdog, self._monotonic = watchdog, monotonic
        self._next_at = 0.0
        self._up = self._deaf = False

    @classmethod
    def of(cls, environment: MutableMapping[str, str], monotonic: Callable[[], float]) -> Self:
        """The one the environment names; taken out of it, so that no program started from here speaks for us."""
        address = environment.pop("NOTIFY_SOCKET", "")
        watchdog = environment.pop("WATCHDOG_USEC", "")
        expected = environment.pop("WATCHDOG_PID", "")
        ours = watchdog.isdecimal() and expected in ("", str(os.getpid()))
        return cls(address, int(watchdog) / 1e6 if ours else 0.0, monotonic)

    def ready(self, status: str) -> None:
        """Up; `status` is what `systemctl status` shows."""
        self._up = True
        self._tell(f"READY=1\nSTATUS={status}")

    def reloading(self) -> None:
        """A reload has begun. Later versions of systemd want to know since when."""
        if self._up:
            self._tell(f"RELOADING=1\nMONOTONIC_USEC={round(self._monotonic() * 1e6)}")

    def reloaded(self, status: str) -> None:
        """The reload has come to its end, whichever. Before we are up nobody waits for that."""
        if self._up:
            self.ready(status)

    def stopping(self) -> None:
        """The end has begun."""
        self._tell("STOPPING=1")

    def beat(self) -> None:
        """The work goes on. To be called by what does the work, as often as it likes."""
        if self._watchdog and self._monotonic() >= self._next_at:
            self._next_at = self._monotonic() + self._watchdog / 3
            self._tell("WATCHDOG=1", patience=0.0)

    @asynccontextmanager
    async def pulse(self) -> AsyncIterator[None]:
        """Beat as long as the loop turns, for work that takes long and has an end, such as loading a table."""
        beating = asyncio.create_task(self._pulse(), name="pulse")
        try:
            yield
        finally:
            await cancel_and_wait(beating)
            if not beating.cancelled():
                beating.result()

    async def _pulse(self) -> None:
        while True:
            self.beat()
            await asyncio.sleep(PULSE)

    def _tell(self, text: str, patience: float = PATIENCE) -> None:
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
                sock.settimeout(patience)
                sock.sendto(text.encode(), self._address)
        except OSError as error:
            if not self._deaf:
                log.warning("supervisor.deaf", error=error.strerror or type(error).__name__)
            self._deaf = True
