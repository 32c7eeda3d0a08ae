"""No background task dies unseen: the daemon ends loudly with it."""

import ast
import asyncio
import os
import signal
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from precall.config.schema import Config
from precall.runtime.daemon import Daemon
from tests.support.patience import PATIENCE, until

CODE = Path(__file__).parents[3] / "daemon" / "precall"

EVENTS = {
    "clock": "task.broken",
    "reloads": "task.broken",
    "check tick": "task.broken",
    "credentials": "task.broken",
    "lead": "lead.broken",
    "ledger": "ledger.broken",
    "api watch": "api.unwatched",
    "receipt queue": "task.broken",
}
"""The background tasks of a daemon at rest, and what is logged when one dies."""

STARTED_ELSEWHERE = {
    "concurrency.py": "the guard itself",
    "runtime/daemon.py": "start and stop, both awaited by serve",
    "runtime/standby.py": "the mirror, whose error take_lead raises",
    "runtime/systemd.py": "the pulse, whose error is raised where the work it accompanies ends",
    "engine/checker.py": "a check: its error is logged, and the binding is checked again",
    "engine/brake_release.py": "a release: its error is logged, and the next look begins it again",
    "engine/call_poller.py": "questions about calls, awaited by the job",
    "store/store.py": "a transaction: its caller gets the error",
    "store/members.py": "a sign of life, awaited by the membership, which logs its error",
    "store/source_database.py": "the reading of a source, awaited by the sync",
    "table/writer.py": "the catching up, awaited by the writer",
}


class Fault:
    """Lets the task called `name` end by an error once `strike` is set."""

    def __init__(self, name: str) -> None:
        self.name, self.strike, self.begun = name, asyncio.Event(), asyncio.Event()
        self._create = asyncio.create_task

    def create_task(
        self, work: Coroutine[Any, Any, Any], *, name: str | None = None, **more: Any
    ) -> "asyncio.Task[Any]":
        if name == self.name:
            self.begun.set()
            work = self._mortal(work)
        return self._create(work, name=name, **more)

    async def _mortal(self, work: Coroutine[Any, Any, Any]) -> Any:
        inner, struck = self._create(work), self._create(self.strike.wait())
        try:
            await asyncio.wait({inner, struck}, return_when=asyncio.FIRST_COMPLETED)
            if not inner.done():
                raise RuntimeError("struck")
            return inner.result()
        finally:
            for task in (inner, struck):
                task.cancel()
            await asyncio.wait({inner, struck})


@pytest.mark.parametrize("name", EVENTS)
async def test_the_daemon_exits_when_a_background_task_fails(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fault = Fault(name)
    monkeypatch.setattr(asyncio, "create_task", fault.create_task)
    key = {} if name == "credentials" else {"access_key_id": "i", "access_key_secret": "s"}
    config = Config(
        provider={"endpoint": "http://127.0.0.1:9", **key},  # type: ignore[arg-type]
        store={"url": f"sqlite:///{tmp_path}/precall.db"},  # type: ignore[arg-type]
        api={"listen": "127.0.0.1:0"},  # type: ignore[arg-type]
        receipts={  # type: ignore[arg-type]
            "queue": "Alicom-Queue-1-SecretReport",
            "queue_endpoint": "http://127.0.0.1:9",
            "token_endpoint": "http://127.0.0.1:9",
        },
    )
    announced = list[str]()
    with capture_logs() as lines:
        serving = asyncio.create_task(Daemon(config).serve(announced.extend))
        await until(lambda: announced or serving.done())
        assert fault.begun.is_set()
        fault.strike.set()
        with pytest.raises(RuntimeError, match="struck"):
            await asyncio.wait_for(serving, PATIENCE)
    [broken] = [line for line in lines if line["log_level"] == "critical"]
    assert (broken["event"], broken["task"]) == (EVENTS[name], name)


async def test_a_signal_ends_it_without_an_error(tmp_path: Path) -> None:
    config = Config(
        provider={"endpoint": "http://127.0.0.1:9", "access_key_id": "i", "access_key_secret": "s"},  # type: ignore[arg-type]
        store={"url": f"sqlite:///{tmp_path}/precall.db"},  # type: ignore[arg-type]
        api={"listen": "127.0.0.1:0"},  # type: ignore[arg-type]
    )
    announced = list[str]()
    serving = asyncio.create_task(Daemon(config).serve(announced.extend))
    await until(lambda: announced)
    os.kill(os.getpid(), signal.SIGTERM)
    await asyncio.wait_for(serving, PATIENCE)


def test_tasks_are_started_only_in_listed_modules() -> None:
    found = set()
    for file in CODE.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            name = node.attr if isinstance(node, ast.Attribute) else ""
            if name in {"create_task", "ensure_future", "TaskGroup"}:
                found.add(file.relative_to(CODE).as_posix())
    assert {one for one in found if not one.startswith("simulator/")} == set(STARTED_ELSEWHERE)
