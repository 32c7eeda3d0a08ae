"""What holds for every test: a test that leaves a task behind fails, and in CI nothing is skipped. And the databases:
what asks for `store_url` runs on SQLite and on PostgreSQL.

PostgreSQL is started once, when the first test needs it; `PRECALL_TEST_POSTGRES_URL` names another server, by a user
who may create databases.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import nullcontext
from pathlib import Path

import pytest
import pytest_asyncio

from precall import log
from tests.postgres import Databases, running


@pytest.fixture(autouse=True, scope="session")
def _logs_as_in_the_daemon() -> None:
    log.configure("debug")


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """A developer's own PRECALL_ variables must not reach the tests."""
    for name in list(os.environ):
        if name.startswith("PRECALL_") and not name.startswith("PRECALL_TEST_"):
            monkeypatch.delenv(name)


@pytest.fixture(scope="session")
def databases() -> Iterator[Databases]:
    """Of the one PostgreSQL."""
    other = os.environ.get("PRECALL_TEST_POSTGRES_URL", "")
    with nullcontext() if other else running() as server:
        found = Databases(other or server.url())
        yield found
        found.close()


@pytest.fixture(params=["sqlite", "postgresql"])
def new_store_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[..., str]]:
    """Makes databases without rows; those of PostgreSQL are at head, which saves time, unless `migrated=False`."""
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
    """A database without rows; open it with `auto_migrate=True`."""
    return new_store_url()


@pytest_asyncio.fixture(autouse=True)
async def _no_task_left_behind() -> AsyncIterator[None]:
    mine = asyncio.current_task()
    before = asyncio.all_tasks()
    yield
    for _ in range(20):
        left = {task for task in asyncio.all_tasks() - before if task is not mine and not task.done()}
        left.discard(asyncio.current_task())  # type: ignore[arg-type]
        if not left:
            return
        await asyncio.sleep(0.02)
    raise AssertionError(f"tasks left behind: {sorted(task.get_name() for task in left)}")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """In CI a skipped test is a failed one: the script installs whatever tests need."""
    if os.environ.get("CI") == "true" and terminalreporter.stats.get("skipped"):
        terminalreporter.write_line("CI=true forbids skipped tests", red=True)


def pytest_sessionfinish(session: pytest.Session) -> None:
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if os.environ.get("CI") == "true" and reporter is not None and reporter.stats.get("skipped"):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
