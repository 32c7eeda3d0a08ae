"""Run commands of precall as processes forked from one that has already imported precall.

Importing precall takes a second of CPU time, and the suite starts about two hundred commands. A forked command behaves
as if started by a shell: it has its own arguments, environment, folder, streams, signals and exit code.
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
    "precall.cli.contact", "precall.cli.doctor", "precall.cli.simulator", "precall.cli.demo_view",
    "precall.store.migration", "alembic.command", "alembic.ddl.postgresql", "alembic.ddl.sqlite",
    "sqlalchemy.dialects.postgresql.asyncpg", "sqlalchemy.dialects.sqlite.aiosqlite",
)  # fmt: skip
"""Modules to import in advance, including those that commands import only while they run."""
STREAMS = 3
MAX_MESSAGE = 1 << 17
STATUS = 4
"""Bytes of the message that has the exit status of a command."""


class Forked:
    """A running command, with the methods of `subprocess.Popen` that tests use."""

    def __init__(self, pid: int, status: int) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._status: int | None = status
        self._ending = threading.Lock()

    def poll(self) -> int | None:
        return self._read_status(0.0)

    def wait(self, timeout: float | None = None) -> int:
        """Return the exit code. Raises TimeoutExpired if the command still runs after `timeout` seconds."""
        code = self._read_status(timeout)
        if code is None:
            raise subprocess.TimeoutExpired("precall", timeout or 0.0)
        return code

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def _read_status(self, timeout: float | None) -> int | None:
        with self._ending:
            if self._status is None:
                return self.returncode
            if not select.select([self._status], [], [], timeout)[0]:
                return None
            status = os.read(self._status, STATUS)
            assert len(status) == STATUS, "the process that forks commands has ended"
            os.close(self._status)
            self._status = None
            self.returncode = os.waitstatus_to_exitcode(int.from_bytes(status, "little"))
            return self.returncode


class ForkServer:
    """The process that has imported precall and forks commands."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._lock = threading.Lock()
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
        """Run `precall` with these arguments. `streams` are its standard input, output and error."""
        status, writer = os.pipe()
        given = [stream if isinstance(stream, int) else stream.fileno() for stream in streams]
        message = json.dumps({"args": list(args), "env": dict(env), "cwd": str(cwd)}).encode()
        try:
            with self._lock:
                socket.send_fds(self._link, [message], [*given, writer])
                pid = self._link.recv(64)
        finally:
            os.close(writer)
        assert pid, "the process that forks commands has ended"
        return Forked(int(pid), status)


@cache
def fork_server() -> ForkServer:
    """Return the fork server of this test process; they end together."""
    plain = {name: value for name, value in os.environ.items() if not name.startswith("PRECALL_")}
    return ForkServer(plain | {"PYTHONPATH": str(PROJECT / "daemon")})


def ended_of(
    args: Sequence[str], env: Mapping[str, str], stdin: str, cwd: Path, timeout: float = 90.0
) -> "subprocess.CompletedProcess[str]":
    """Run a command to its end, like `subprocess.run`. Raises TimeoutExpired if it takes too long."""
    with TemporaryFile() as given, TemporaryFile() as out, TemporaryFile() as err:
        given.write(stdin.encode())
        given.seek(0)
        process = fork_server().start(args, env=env, cwd=cwd, streams=(given, out, err))
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
    """Serve requests until the other end of `link` is closed."""
    wakeup, signalled = socket.socketpair()
    for end in (wakeup, signalled):
        end.settimeout(0.0)
    signal.set_wakeup_fd(signalled.fileno(), warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    under_way: dict[int, int] = {}
    while True:
        ready, _, _ = select.select([link, wakeup], [], [])
        if wakeup in ready:
            wakeup.recv(4096)
            _report_ended(under_way)
        if link in ready:
            message, given, _, _ = socket.recv_fds(link, MAX_MESSAGE, STREAMS + 1)
            if not message:
                return
            pid = os.fork()
            if pid == 0:
                _become(json.loads(message), given[:STREAMS])
            for stream in given[:STREAMS]:
                os.close(stream)
            under_way[pid] = given[STREAMS]
            link.send(str(pid).encode())


def _report_ended(under_way: dict[int, int]) -> None:
    while under_way:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if not pid:
            return
        writer = under_way.pop(pid)
        with suppress(BrokenPipeError):  # nothing waits for it any more
            os.write(writer, status.to_bytes(STATUS, "little"))
        os.close(writer)


def _become(order: dict[str, Any], streams: Sequence[int]) -> NoReturn:
    """Replace this process by the command, and run it to its end."""
    signal.set_wakeup_fd(-1)
    for number, handler in (
        (signal.SIGCHLD, signal.SIG_DFL),
        (signal.SIGINT, signal.default_int_handler),
    ):
        signal.signal(number, handler)
    for number, descriptor in enumerate(streams):
        os.dup2(descriptor, number)
    os.closerange(STREAMS, 4096)
    os.environ.clear()
    os.environ.update(order["env"])
    os.chdir(order["cwd"])
    sys.argv = [str(Path(sys.executable).with_name("precall")), *order["args"]]
    from precall.cli import main

    code: object = 0
    try:
        main()
    except SystemExit as error:
        code = error.code
    except BaseException:  # noqa: BLE001  as the interpreter does
        traceback.print_exc()
        code = 1
    finally:
        # As at interpreter exit, but without destroying all modules, which takes longer than most commands.
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
    gc.freeze()  # keep collections in commands from copying every page
    fork_when_asked(socket.socket(fileno=int(sys.argv[1])))
