"""What some tests need of the system beyond the locked Python packages: `@pytest.mark.needs("prometheus")`.

A test whose needs are not there is skipped; the last line of the run names what is missing and how to install it.
"""

import shutil
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

FAKETIME = "/usr/lib/*/faketime/libfaketimeMT.so.1"


@dataclass(frozen=True, slots=True)
class Need:
    """Packages of the system that are installed together, and whether they are here."""

    install: str
    here: Callable[[], bool]


def _programs(*names: str) -> Callable[[], bool]:
    return lambda: all(map(shutil.which, names))


def faketime() -> Path | None:
    """The library that sets the clock of a process, if it is installed."""
    return next(iter(sorted(Path("/").glob(FAKETIME[1:]))), None)


def pgbouncer() -> str | None:
    """The program of Debian's package, which stands where only root looks."""
    return shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin")


NEEDS = {
    "prometheus": Need("apt-get install prometheus", _programs("prometheus", "promtool")),
    "systemd": Need("apt-get install systemd", _programs("systemd-analyze")),
    "pgbouncer": Need("apt-get install pgbouncer", lambda: pgbouncer() is not None),
    "faketime": Need("apt-get install libfaketime", lambda: faketime() is not None),
}
"""At most four, so that the end of a run stays short: what serves the same tests is one need."""


def missing(names: Iterable[str]) -> str | None:
    """Why a test with these needs is skipped, or None. Raises KeyError for a need that is not known here."""
    absent = [name for name in names if not NEEDS[name].here()]
    return f"needs {absent[0]}" if absent else None


def last_lines(reasons: Iterable[str]) -> list[str]:
    """What to print of skipped tests, given their reasons: a line for each need, and for each other reason."""
    lines = []
    for reason, count in sorted(Counter(reasons).items()):
        tests = "1 test" if count == 1 else f"{count} tests"
        need = NEEDS.get(reason.removeprefix("needs "))
        what = f"{reason}: {need.install}" if need else reason
        lines.append(f"skipped: {tests}: {what}")
    return lines
