"""Programs that some tests need beyond the locked Python packages: `@pytest.mark.needs("prometheus")`.

A test is skipped if one is missing. The end of the run lists the missing ones, and how to install them.
"""

import shutil
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

FAKETIME = "/usr/lib/*/faketime/libfaketimeMT.so.1"


@dataclass(frozen=True, slots=True)
class Need:
    """A system package: how to install it, and whether it is installed."""

    install: str
    installed: Callable[[], bool]


def _programs(*names: str) -> Callable[[], bool]:
    return lambda: all(map(shutil.which, names))


def faketime() -> Path | None:
    """Return the library that sets the clock of a process, if it is installed."""
    return next(iter(sorted(Path("/").glob(FAKETIME[1:]))), None)


def pgbouncer() -> str | None:
    """Return the path of PgBouncer; Debian installs it where only root looks."""
    return shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin")


NEEDS = {
    "prometheus": Need("apt-get install prometheus", _programs("prometheus", "promtool")),
    "systemd": Need("apt-get install systemd", _programs("systemd-analyze")),
    "pgbouncer": Need("apt-get install pgbouncer", lambda: pgbouncer() is not None),
    "faketime": Need("apt-get install libfaketime", lambda: faketime() is not None),
    "chromium": Need("apt-get install chromium", lambda: Path("/usr/bin/chromium").exists()),
}
"""At most five, so that the end of a run stays short: packages that serve the same tests are one need."""


def missing(names: Iterable[str]) -> str | None:
    """Return why to skip a test with these needs, or None. Raises KeyError for an unknown need."""
    absent = [name for name in names if not NEEDS[name].installed()]
    return f"needs {absent[0]}" if absent else None


def last_lines(reasons: Iterable[str]) -> list[str]:
    """Return the lines to print about skipped tests, one for each distinct reason."""
    lines = []
    for reason, count in sorted(Counter(reasons).items()):
        tests = "1 test" if count == 1 else f"{count} tests"
        need = NEEDS.get(reason.removeprefix("needs "))
        what = f"{reason}: {need.install}" if need else reason
        lines.append(f"skipped: {tests}: {what}")
    return lines
