"""Notifications to systemd: their texts, recipient and frequency."""

import asyncio
import os
import socket
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from precall.runtime.systemd import SystemdNotifier


class Manager:
    """A service manager: a datagram socket that records what it receives."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(f"\0{address[1:]}" if address.startswith("@") else address)
        self.socket.settimeout(0.0)

    def heard(self) -> list[str]:
        """All since the last time."""
        words = []
        while True:
            try:
                words.append(self.socket.recv(4096).decode())
            except BlockingIOError:
                return words


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Manager]:
    found = Manager(f"{tmp_path}/notify" if request.param == "path" else f"@precall-{uuid.uuid4()}")
    yield found
    found.socket.close()


def test_ready_reloading_and_stopping_are_notified(manager: Manager) -> None:
    supervisor = SystemdNotifier(manager.address, 0.0, lambda: 12.3456789)
    supervisor.reloading()
    supervisor.reloaded("before it is up")
    assert manager.heard() == [], "nobody waits for a reload of what is not up"
    supervisor.ready("checks 3 bindings")
    supervisor.reloading()
    supervisor.reloaded("reloaded")
    supervisor.beat()
    supervisor.stopping()
    assert manager.heard() == [
        "READY=1\nSTATUS=checks 3 bindings",
        "RELOADING=1\nMONOTONIC_USEC=12345679",
        "READY=1\nSTATUS=reloaded",
        "STOPPING=1",
    ]


def test_the_watchdog_is_fed_three_times_per_interval(manager: Manager) -> None:
    now = 100.0
    supervisor = SystemdNotifier(manager.address, 30.0, lambda: now)
    for _ in range(600):
        now += 0.1
        supervisor.beat()
    assert manager.heard() == ["WATCHDOG=1"] * 6


async def test_long_work_feeds_the_watchdog_while_the_loop_runs(manager: Manager) -> None:
    supervisor = SystemdNotifier(manager.address, 1e-6, asyncio.get_running_loop().time)
    async with supervisor.pulse():
        await asyncio.sleep(0)
    assert manager.heard() == ["WATCHDOG=1"]


def test_the_environment_is_read_once_and_cleaned(manager: Manager) -> None:
    environment = {
        "NOTIFY_SOCKET": manager.address,
        "WATCHDOG_USEC": "2000000",
        "WATCHDOG_PID": str(os.getpid()),
        "HOME": "/",
    }
    supervisor = SystemdNotifier.of(environment, lambda: 5.0)
    assert environment == {"HOME": "/"}
    supervisor.beat()
    assert manager.heard() == ["WATCHDOG=1"]


def test_a_watchdog_for_another_process_is_ignored(manager: Manager) -> None:
    supervisor = SystemdNotifier.of(
        {"NOTIFY_SOCKET": manager.address, "WATCHDOG_USEC": "2000000", "WATCHDOG_PID": "1"}, lambda: 5.0
    )
    supervisor.beat()
    assert manager.heard() == []


def test_a_missing_service_manager_is_ignored(manager: Manager, caplog: pytest.LogCaptureFixture) -> None:
    silent = SystemdNotifier.of({}, lambda: 5.0)
    silent.ready("x")
    silent.beat()
    assert caplog.text == ""
    supervisor = SystemdNotifier(f"{manager.address}-elsewhere")
    supervisor.ready("x")
    supervisor.stopping()
    assert caplog.text.count("supervisor.deaf") == 1
