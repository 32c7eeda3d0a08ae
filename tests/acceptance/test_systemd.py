"""The daemon as a systemd service: the unit is valid, and a test socket receives its notifications."""

import queue
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.acceptance.test_cli import ENVIRONMENT, PATIENCE, PROJECT, URL, config_file, free_port, precall
from tests.support.searched import Search

pytestmark = pytest.mark.slow

UNIT = PROJECT / "deploy" / "systemd" / "precall.service"
MOST_EXPOSED = 2.0

needs_systemd = pytest.mark.needs("systemd")


@pytest.fixture
def unit(tmp_path: Path) -> Path:
    """The unit, with programs that exist here."""
    text = UNIT.read_text(encoding="utf-8")
    assert "ExecStart=/opt/precall/bin/precall run" in text
    program = Path(sys.executable).with_name("precall")
    made = tmp_path / UNIT.name
    made.write_text(text.replace("/opt/precall/bin/precall", str(program)))
    return made


@needs_systemd
def test_systemd_analyze_verifies_the_unit(unit: Path) -> None:
    result = subprocess.run(["systemd-analyze", "verify", unit], capture_output=True, text=True, check=False)
    assert (result.returncode, result.stderr) == (0, "")


@needs_systemd
def test_the_unit_is_sandboxed(unit: Path) -> None:
    command = ["systemd-analyze", "security", "--offline=true", "--no-pager", unit]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    level = re.search(r"Overall exposure level for precall.service: ([0-9.]+)", result.stdout)
    assert level is not None
    assert float(level[1]) <= MOST_EXPOSED


class Managed:
    """A daemon started as by systemd, and its notifications."""

    def __init__(self, folder: Path, config: Path, name: str = "one") -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(f"{folder}/{name}.notify")
        self.words: queue.Queue[str] = queue.Queue()
        self.pulses = 0
        self.ear = threading.Thread(target=self._listen)
        self.ear.start()
        self.search, self.output = Search(config), folder / f"{name}.out"
        with self.output.open("w") as out:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "precall", "run", "--config", config],
                env=ENVIRONMENT | {"NOTIFY_SOCKET": f"{folder}/{name}.notify", "WATCHDOG_USEC": "300000"},
                stdout=out,
                stderr=subprocess.STDOUT,
                cwd=folder,
            )

    def next_notification(self) -> dict[str, str]:
        """Return the next notification other than the watchdog's."""
        return dict(line.split("=", 1) for line in self.words.get(timeout=PATIENCE).splitlines())

    def _listen(self) -> None:
        while word := self.socket.recv(4096).decode():
            if word == "WATCHDOG=1":
                self.pulses += 1
            else:
                self.words.put(word)

    def look(self) -> None:
        """Collect notifications as long as there are any."""
        self.search.take(URL.findall(self.output.read_text())[0])

    def reload(self) -> str:
        """How the reload ended."""
        before = time.monotonic_ns() // 1000
        self.process.send_signal(signal.SIGHUP)
        begun = self.next_notification()
        assert begun["RELOADING"] == "1"
        assert before <= int(begun["MONOTONIC_USEC"]) <= time.monotonic_ns() // 1000
        ended = self.next_notification()
        assert ended["READY"] == "1"
        return ended["STATUS"]


@contextmanager
def managed(folder: Path, config: Path, name: str = "one") -> Iterator[Managed]:
    service = Managed(folder, config, name)
    try:
        yield service
    finally:
        if service.process.poll() is None:
            service.process.kill()
        service.process.wait(PATIENCE)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as last:
            last.sendto(b"", f"{folder}/{name}.notify")
        service.ear.join(PATIENCE)
        service.socket.close()
    service.search.end(service.output.read_text())


def test_systemd_is_notified_and_a_failed_reload_keeps_the_daemon_running(tmp_path: Path) -> None:
    port = free_port()
    config = config_file(tmp_path, "http://127.0.0.1:9", listen=f"127.0.0.1:{port}")
    good, url = config.read_text(), f"http://127.0.0.1:{port}"
    with managed(tmp_path, config) as service:
        assert service.next_notification() == {"READY": "1", "STATUS": "checks 0 bindings"}
        config.write_text(good + '[freshness]\nmin_interval = "9s"\nmax_age = 5\n[polcy]\n')
        assert "refused" in service.reload()
        asked = precall("config", "reload", url=url)
        assert (asked.returncode, len(asked.stdout.splitlines())) == (1, 2)
        assert [service.next_notification().keys() for _ in range(2)] == [
            {"RELOADING", "MONOTONIC_USEC"},
            {"READY", "STATUS"},
        ]
        config.write_text(good + '[freshness]\nmin_interval = "9s"\n')
        assert "reloaded" in service.reload()
        assert precall("config", "reload", url=url).stdout == "nothing has changed\n"
        for _ in range(2):
            service.next_notification()
        pulses = service.pulses
        service.look()
        service.process.send_signal(signal.SIGTERM)
        assert service.next_notification() == {"STOPPING": "1"}
        assert service.process.wait(PATIENCE) == 0
        assert pulses > 0


def test_a_standby_is_ready_and_feeds_the_watchdog(tmp_path: Path) -> None:
    config = config_file(tmp_path, "http://127.0.0.1:9")
    with managed(tmp_path, config) as first:
        assert first.next_notification()["STATUS"] == "checks 0 bindings"
        with managed(tmp_path, config, "two") as second:
            assert "stands by" in second.next_notification()["STATUS"]
            config.write_text(config.read_text() + '[policy]\nskew = "9s"\n')
            assert "reloaded" in second.reload()
            first.look()
            first.process.kill()
            assert second.next_notification()["STATUS"] == "checks 0 bindings"
            assert second.process.poll() is None
            assert second.pulses > 0
            second.look()
