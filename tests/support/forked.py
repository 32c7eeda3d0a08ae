"""Commands of precall, each a process of its own, forked from one that has imported all of it before.

Importing precall costs a second of a core, and the suite starts some two hundred commands. A forked one has its own
arguments, environment, folder and streams, takes signals and ends with an exit code, as one started by a shell.
"""

import atexit
import gc
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import traceback
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cache
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Any, NoReturn

PROJECT = Path(__file__).resolve().parents[2]
NEEDED = (
    "aiosqlite", "asyncpg", "uvloop", "precall.cli", "precall.runtime.daemon", "precall.cli.demo", "precall.simulator",
    "precall.cli.doctor", "precall.cli.simulator", "precall.cli.demo_view", "precall.store.migration",
    "alembic.command", "alembic.ddl.postgresql", "alembic.ddl.sqlite", "sqlalchemy.dialects.postgresql.asyncpg",
    "sqlalchemy.dialects.sqlite.aiosqlite",
)  # fmt: skip
"""Also what commands import only once they are under way."""
STREAMS = 3
LARGEST = 1 << 17
STATUS = 4
"""Bytes that tell how a command ended."""


class Forked:
    """A command under way, with the methods of `subprocess.Popen` that tests use."""

    def __init__(self, pid: int, status: int) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._status: int | None = status
        self._ending = threading.Lock()

    def poll(self) -> int | None:
        return self._look(0.0)

    def wait(self, timeout: float | None = None) -> int:
        """The exit code. Raises TimeoutExpired when it is still running after so many seconds."""
        ended = self._look(timeout)
        if ended is None:
            raise subprocess.TimeoutExpired("precall", timeout or 0.0)
        return ended

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def _look(self, timeout: float | None) -> int | None:
        with self._ending:
            if self._status is None:
                return self.returncode
            if not select.select([self._status], [], [], timeout)[0]:
                return None
            told = os.read(self._status, STATUS)
            assert len(told) == STATUS, "the process that forks commands has ended"
            os.close(self._status)
            self._status = None
            self.returncode = os.waitstatus_to_exitcode(int.from_bytes(told, "little"))
            return self.returncode


class Nursery:
    """The process that has imported precall, and forks commands of it."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._asking = threading.Lock()
        self._link, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.support.forked", str(theirs.fileno())],
                cwd=PROJECT,
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
            )

    def start(
        self,
        args: Sequence[str],
        *,
        env: Mapping[str, str],
        cwd: Path | str,
        streams: tuple[int | IO[Any], int | IO[Any], int | IO[Any]],
    ) -> Forked:
        """Run `precall` with these arguments; `streams` are its standard input, output and error."""
        told, tells = os.pipe()
        given = [one if isinstance(one, int) else one.fileno() for one in streams]
        message = json.dumps({"args": list(args), "env": dict(env), "cwd": str(cwd)}).encode()
        try:
            with self._asking:
                socket.send_fds(self._link, [message], [*given, tells])
                pid = self._link.recv(64)
        finally:
            os.close(tells)
        assert pid, "the process that forks commands has ended"
        return Forked(int(pid), told)


@cache
def nursery() -> Nursery:
    """The one of this test process; it ends with it."""
    plain = {name: value for name, value in os.environ.items() if not name.startswith("PRECALL_")}
    return Nursery(plain | {"PYTHONPATH": str(PROJECT / "daemon")})


def ended_of(
    args: Sequence[str], env: Mapping[str, str], stdin: str, cwd: Path, timeout: float = 90.0
) -> "subprocess.CompletedProcess[str]":
    """A command after its end, as `subprocess.run` gives it. Raises TimeoutExpired when there is none in time."""
    with TemporaryFile() as given, TemporaryFile() as out, TemporaryFile() as err:
        given.write(stdin.encode())
        given.seek(0)
        process = nursery().start(args, env=env, cwd=cwd, streams=(given, out, err))
        try:
            code = process.wait(timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
        for stream in (out, err):
            stream.seek(0)
        return subprocess.CompletedProcess(list(args), code, out.read().decode(), err.read().decode())


# -- in the process that forks ----------------------------------------------------------------------


def fork_when_asked(link: socket.socket) -> None:
    """Until nobody can ask any more."""
    bell, rung = socket.socketpair()
    for end in (bell, rung):
        end.settimeout(0.0)
    signal.set_wakeup_fd(rung.fileno(), warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    under_way: dict[int, int] = {}
    while True:
        ready, _, _ = select.select([link, bell], [], [])
        if bell in ready:
            bell.recv(4096)
            _tell_ended(under_way)
        if link in ready:
            message, given, _, _ = socket.recv_fds(link, LARGEST, STREAMS + 1)
            if not message:
                return
            pid = os.fork()
            if pid == 0:
                _become(json.loads(message), given[:STREAMS])
            for one in given[:STREAMS]:
                os.close(one)
            under_way[pid] = given[STREAMS]
            link.send(str(pid).encode())


def _tell_ended(under_way: dict[int, int]) -> None:
    while under_way:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if not pid:
            return
        tells = under_way.pop(pid)
        with suppress(BrokenPipeError):  # nobody waits for it any more
            os.write(tells, status.to_bytes(STATUS, "little"))
        os.close(tells)


def _become(order: dict[str, Any], streams: Sequence[int]) -> NoReturn:
    """The command, to its end."""
    signal.set_wakeup_fd(-1)
    for number, handler in (
        (signal.SIGCHLD, signal.SIG_DFL),
        (signal.SIGINT, signal.default_int_handler),
    ):
        signal.signal(number, handler)
    for number, one in enumerate(streams):
        os.dup2(one, number)
    os.closerange(STREAMS, 4096)
    os.environ.clear()
    os.environ.update(order["env"])
    os.chdir(order["cwd"])
    sys.argv = [str(Path(sys.executable).with_name("precall")), *order["args"]]
    from precall.cli import main

    code: object = 0
    try:
        main()
    except SystemExit as ended:
        code = ended.code
    except BaseException:  # noqa: BLE001  whatever it is, an interpreter shows it and ends
        traceback.print_exc()
        code = 1
    finally:
        # What an interpreter does at its end, less taking apart all modules, which takes longer than most commands.
        threading._shutdown()  # type: ignore[attr-defined]
        atexit._run_exitfuncs()
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError):
                stream.flush()
        os._exit(code if isinstance(code, int) else int(code is not None))


if __name__ == "__main__":
    for name in NEEDED:
        import_module(name)
    assert len(list(Path("/proc/self/task").iterdir())) == 1, "a process with threads cannot be forked safely"
    gc.collect()
    gc.freeze()  # a collection in a command would copy every page
    fork_when_asked(socket.socket(fileno=int(sys.argv[1])))
