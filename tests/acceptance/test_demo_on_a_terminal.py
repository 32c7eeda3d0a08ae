"""`precall demo` on a terminal: a screen of its own that follows the size, and an end that stays to be read."""

import fcntl
import os
import pty
import re
import select
import shlex
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.acceptance.test_cli import ENVIRONMENT
from tests.support.patience import PATIENCE

from precall.cli.demo_view import commands_to_try

pytestmark = pytest.mark.slow(seconds=25)
OPENED, CLOSED = "\x1b[?1049h", "\x1b[?1049l"
"""What turns to the alternate screen of a terminal, and back."""
HOME = "\x1b[H"
CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
COLOURED = re.compile(r"\x1b\[[0-9;]*\b(3[0-7]|9[0-7]|38)\b[0-9;]*m")


class Terminal:
    """A command on a pseudo terminal, and everything it has written there."""

    def __init__(self, columns: int, lines: int, folder: Path, *words: str) -> None:
        self._own, other = pty.openpty()
        self.resize(columns, lines)
        environment = {name: value for name, value in ENVIRONMENT.items() if name not in ("COLUMNS", "LINES")}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "precall", *words],
            stdin=other, stdout=other, stderr=other, cwd=folder,
            env=environment | {"TERM": "xterm-256color", "PYTHONIOENCODING": "utf-8"},
        )  # fmt: skip
        os.close(other)
        self._shown, self._ended = bytearray(), False

    @property
    def shown(self) -> str:
        return self._shown.decode("utf-8", "ignore")

    def resize(self, columns: int, lines: int) -> None:
        fcntl.ioctl(self._own, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def frames(self) -> list[list[str]]:
        """Return the lines of each picture that is complete."""
        on_screen = self.shown.partition(OPENED)[2].partition(CLOSED)[0]
        return [lines for one in on_screen.split(HOME)[1:-1] if (lines := plain(one))]

    def until(self, true: Callable[[], object]) -> None:
        """Read what the command writes until `true()`."""
        end = time.monotonic() + PATIENCE
        while not true():
            assert time.monotonic() < end, self.shown[-2000:]
            readable, _, _ = select.select([self._own], [], [], 0.1)
            try:
                more = os.read(self._own, 1 << 16) if readable else None
            except OSError:  # Linux says so when the last writer has gone
                more = b""
            self._ended = more == b""
            self._shown += more or b""

    def end(self) -> int:
        """Interrupt the command, read the rest, and return its exit code."""
        self.process.send_signal(signal.SIGINT)
        self.until(lambda: self._ended)
        return self.process.wait(PATIENCE)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self._own)


def plain(text: str) -> list[str]:
    return [line.rstrip() for line in CONTROL.sub("", text).replace("\r", "").splitlines()]


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Terminal]:
    shown = Terminal(80, 24, tmp_path, "demo", "--port", "0")
    yield shown
    shown.close()


def test_the_demo_fits_a_terminal_follows_its_size_and_ends_with_what_it_was_worth(
    terminal: Terminal,
) -> None:
    def has(caption: str) -> bool:
        return any(re.match(rf"t\+\d+ s: .*{caption}", line) for line in (terminal.frames() or [[]])[-1])

    terminal.until(lambda: has("runs out of temporary numbers"))
    small = terminal.frames()
    assert all(len(frame) == 24 and max(map(len, frame)) <= 80 for frame in small)
    assert all(frame[0].startswith("precall demo  t+") for frame in small)
    terminal.resize(160, 50)
    terminal.until(lambda: len(terminal.frames()[-1]) == 50)
    terminal.until(lambda: has("the brake stops FC100003"))
    large = terminal.frames()[-1]
    assert 80 < max(map(len, large)) <= 160
    assert any(line.startswith("brake  FC100003 gave out 20 real numbers") for line in large)

    assert terminal.end() == 0
    assert not COLOURED.search(terminal.shown)  # NO_COLOR is set
    left = plain(terminal.shown.partition(CLOSED)[2])
    last = left[-24:]
    assert any(re.match(r"  by precall's route +\d+ of +\d+ calls failed", line) for line in last)
    assert any(re.match(r"  by the bound X alone +\d+ of +\d+ calls failed", line) for line in last)
    assert "three commands to try" in last
    commands = [line.partition("#")[0].strip() for line in last[-3:]]
    program = commands[0].partition(" plan")[0]
    assert commands == [*commands_to_try(program)]


def test_the_commands_to_try_work_as_they_are(tmp_path: Path) -> None:
    plan, simulate, init = ([sys.executable, "-m", *shlex.split(one)] for one in commands_to_try("precall"))
    for words in (plan, init):
        found = subprocess.run(
            words, cwd=tmp_path, env=ENVIRONMENT, capture_output=True, timeout=PATIENCE, check=True
        )
        assert found.stdout
    assert (tmp_path / "precall" / "precall.toml").exists()
    simulator = subprocess.Popen(simulate, cwd=tmp_path, env=ENVIRONMENT, stdout=subprocess.DEVNULL)
    try:
        end = time.monotonic() + PATIENCE
        while not (tmp_path / "bindings.jsonl").exists():
            assert time.monotonic() < end
            assert simulator.poll() is None
            time.sleep(0.05)
        simulator.terminate()
        assert simulator.wait(PATIENCE) == 0
    finally:
        simulator.kill()
        simulator.wait()
