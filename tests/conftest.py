"""Rules and fixtures for every test.

A test that leaves a task behind fails. Skipped tests are listed at the end of the run, and fail it in CI.

Tests that use `store_url` run on SQLite and on PostgreSQL. Each worker starts a PostgreSQL server when a test first
needs one. `PRECALL_TEST_POSTGRES_URL` names another server to use; its user must be able to create databases.
"""

import asyncio
import inspect
import logging
import os
import resource
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import nullcontext
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from xdist.scheduler import LoadScopeScheduling

from precall.telemetry import logging as log
from tests.support import examples as _examples  # noqa: F401  registers the Hypothesis profiles
from tests.support.needs import last_lines, missing
from tests.support.postgres import SHARED, Databases, running


@pytest.fixture(autouse=True, scope="session")
def _configure_logging() -> None:
    log.configure("info")


@pytest.fixture(autouse=True)
def _restore_logging(_configure_logging: None) -> Iterator[None]:
    """Let no test find the logging that a command run by an earlier one has configured."""
    root = logging.getLogger()
    ours = root.handlers[0]
    yield
    if root.level != logging.INFO or ours not in root.handlers:
        log.configure("info")


@pytest.fixture(autouse=True)
def _clear_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep a developer's own PRECALL_ variables away from the tests."""
    for name in list(os.environ):
        if name.startswith("PRECALL_") and not name.startswith("PRECALL_TEST_"):
            monkeypatch.delenv(name)


@pytest.fixture(scope="session")
def databases() -> Iterator[Databases]:
    """Databases on this worker's PostgreSQL server."""
    other = os.environ.get("PRECALL_TEST_POSTGRES_URL", "")
    with nullcontext() if other else running() as server:
        databases = Databases(other or server.url())
        yield databases
        databases.close()


@pytest.fixture(params=["sqlite", "postgresql"])
def new_store_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[..., str]]:
    """A function that creates an empty database. On PostgreSQL it is at head, to save time, unless `migrated=False`."""
    if request.param == "postgresql":
        databases: Databases = request.getfixturevalue("databases")
        yield databases.new
        databases.drop()
        return
    made: list[str] = []

    def new(*, migrated: bool = True) -> str:
        made.append(f"sqlite:///{tmp_path}/precall{len(made) or ''}.db")
        return made[-1]

    yield new


@pytest.fixture
def store_url(new_store_url: Callable[..., str]) -> str:
    """An empty database; open it with `auto_migrate=True`."""
    return new_store_url()


@pytest_asyncio.fixture
async def _no_task_left_behind() -> AsyncIterator[None]:
    mine = asyncio.current_task()
    before = asyncio.all_tasks()
    yield
    for _ in range(250):
        left = {task for task in asyncio.all_tasks() - before if task is not mine and not task.done()}
        left.discard(asyncio.current_task())  # type: ignore[arg-type]
        if not left:
            return
        await asyncio.sleep(0.02)
    raise AssertionError(f"tasks left behind: {sorted(task.get_name() for task in left)}")


def pytest_itemcollected(item: pytest.Item) -> None:
    """Give the fixture above to coroutine tests only: without it, the others need no event loop."""
    if isinstance(item, pytest.Function) and inspect.iscoroutinefunction(item.obj):
        item.fixturenames.insert(0, _no_task_left_behind.__name__)


def pytest_configure(config: pytest.Config) -> None:
    """Make a folder that the workers share; the process that starts them removes it."""
    # Some tests hold thousands of connections, and an ordinary process may open 1024 files unless it asks for more.
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    if not hasattr(config, "workerinput") and SHARED not in os.environ:
        folder = tempfile.TemporaryDirectory(prefix="precall-suite-")
        os.environ[SHARED] = folder.name
        config.add_cleanup(folder.cleanup)
        config.add_cleanup(lambda: os.environ.pop(SHARED, None))


def pytest_xdist_auto_num_workers() -> int:
    """For `-n auto`, use three workers per core, since tests mostly wait."""
    return min(16, 3 * (os.cpu_count() or 1))


class ByFixture(LoadScopeScheduling):  # type: ignore[misc]
    """Give each test to the next free worker, but keep files with a module-scoped fixture on one worker."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        return file if _has_shared_fixture(file) else nodeid


@cache
def _has_shared_fixture(file: str) -> bool:
    return 'scope="module"' in Path(file).read_text("utf-8")


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> ByFixture:
    """Install the scheduler; with this version of pytest, pytest-xdist's own groups do not reach it."""
    return ByFixture(config, log)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Run the slowest tests first, so that none runs alone at the end. A group counts as its slowest test."""
    if not hasattr(config, "workerinput"):
        return
    longest: dict[str, float] = {}
    for item in items:
        if _shares(item):
            longest[item.location[0]] = max(longest.get(item.location[0], 0.0), _seconds(item))
    items.sort(key=lambda item: -(longest[item.location[0]] if _shares(item) else _seconds(item)))


def _shares(item: pytest.Item) -> bool:
    """Return whether the test uses a module-scoped fixture."""
    fixtures = getattr(item, "_fixtureinfo", None)
    return fixtures is not None and any(
        definition.scope == "module"
        for definitions in fixtures.name2fixturedefs.values()
        for definition in definitions
    )


def _seconds(item: pytest.Item) -> float:
    """Return the seconds in the test's `slow` marker, by default 2; 0 without a marker."""
    mark = item.get_closest_marker("slow")
    return float(mark.kwargs.get("seconds", 2)) if mark else 0.0


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    for mark in item.iter_markers("needs"):
        if reason := missing(mark.args):
            pytest.skip(reason)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> Iterator[None]:
    """List skipped tests, and fail the run for them in CI, where everything that tests need is installed."""
    yield
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if reporter is None:  # a worker, whose reports go to the main process
        return
    skipped = [report.longrepr[2].removeprefix("Skipped: ") for report in reporter.stats.get("skipped", ())]
    if skipped and os.environ.get("CI") == "true":
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
        reporter.write_line("CI=true forbids skipped tests", red=True)
    for line in last_lines(skipped):
        reporter.write_line(line, yellow=True)
