"""Notify systemd (sd_notify) that the daemon is ready, reloading, stopping, or still working.

Each notification is a datagram to the socket that the service manager names; without a socket nothing is sent. The
first failure is logged, and no failure stops the daemon.
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
"""Seconds to wait for room in the manager's queue, so that a busy manager misses no notification."""


class SystemdNotifier:
    """The service manager at `address`: a path, "@name" in the abstract namespace, or "" for none.

    It expects a notification every `watchdog` seconds; 0 turns the watchdog off.
    """

    def __init__(
        self, address: str = "", watchdog: float = 0.0, monotonic: Callable[[], float] = lambda: 0.0
    ) -> None:
        self._address = f"\0{address[1:]}" if address.startswith("@") else address
        self._watchdog, self._monotonic = watchdog, monotonic
        self._next_at = 0.0
        self._up = self._deaf = False

    @classmethod
    def of(cls, environment: MutableMapping[str, str], monotonic: Callable[[], float]) -> Self:
        """The service manager that the environment names. Its variables are removed: no child may use them."""
        address = environment.pop("NOTIFY_SOCKET", "")
        watchdog = environment.pop("WATCHDOG_USEC", "")
        expected = environment.pop("WATCHDOG_PID", "")
        ours = watchdog.isdecimal() and expected in ("", str(os.getpid()))
        return cls(address, int(watchdog) / 1e6 if ours else 0.0, monotonic)

    def ready(self, status: str) -> None:
        """Notify that the daemon is up. `status` is shown by `systemctl status`."""
        self._up = True
        self._tell(f"READY=1\nSTATUS={status}")

    def reloading(self) -> None:
        """Notify that a reload has begun, and when: later versions of systemd require the time."""
        if self._up:
            self._tell(f"RELOADING=1\nMONOTONIC_USEC={round(self._monotonic() * 1e6)}")

    def reloaded(self, status: str) -> None:
        """Notify that the reload has ended, well or not. Before `ready` nothing is sent."""
        if self._up:
            self.ready(status)

    def stopping(self) -> None:
        """Notify that the daemon is stopping."""
        self._tell("STOPPING=1")

    def beat(self) -> None:
        """Notify that work goes on. Call it from the working loop itself, as often as convenient."""
        if self._watchdog and self._monotonic() >= self._next_at:
            self._next_at = self._monotonic() + self._watchdog / 3
            self._tell("WATCHDOG=1", patience=0.0)

    @asynccontextmanager
    async def pulse(self) -> AsyncIterator[None]:
        """Beat while the loop runs, during long work that has an end, such as loading a table."""
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
