"""Each change of a route has its line; in a wave they are counted, and at level debug they are all there."""

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from precall.core.model import COLUMNS_OF, Change, State, WriteCause
from precall.core.routing.route import decide
from precall.table.change_log import EVERY, FEW, ChangeLog
from precall.telemetry import logging as log
from tests.support.builders import NOW, POLICY, observed, row
from tests.support.virtual_time import VirtualLoop, run_virtual

SPEED = 1000.0


def change(index: int, pool_key: str = "FC1", cause: WriteCause = WriteCause.CHECKED) -> Change:
    """A binding of its own turns from normal to temporary."""
    after = row(observed(State.TEMPORARY), subs_id=str(index), pool_key=pool_key)
    return Change(
        index=index,
        at=NOW,
        cause=cause,
        subs_id=str(index),
        pool_key=pool_key,
        before=State.NORMAL,
        row=after,
        route=decide(after, "", POLICY, NOW),
        columns=COLUMNS_OF[cause],
    )


Lines = list[tuple[str, dict[str, Any]]]


@pytest.fixture
def logged(caplog: pytest.LogCaptureFixture) -> Callable[[Callable[[ChangeLog], Awaitable[None]]], Lines]:
    """Give a log to some work in virtual time, and return (level, facts) of each line."""
    log.configure("info")
    caplog.set_level(logging.DEBUG)

    def lines(work: Callable[[ChangeLog], Awaitable[None]]) -> Lines:
        async def within(_loop: VirtualLoop) -> None:
            changes = ChangeLog()
            asyncio.get_running_loop().set_exception_handler(lambda _loop, context: broken.append(context))
            await work(changes)
            changes.close()
            await asyncio.sleep(2 * EVERY)

        broken = list[dict[str, Any]]()
        run_virtual(within, SPEED)
        assert not broken, "a timer that was left"
        return [(one.levelname, one.msg) for one in caplog.records if isinstance(one.msg, dict)]

    return lines


def counts(lines: Lines) -> list[int]:
    return [facts["count"] for _, facts in lines if facts["event"] == "routes.changed"]


def test_a_few_changes_have_a_line_each(logged: Callable[..., Lines]) -> None:
    async def work(changes: ChangeLog) -> None:
        for at in range(5 * FEW):
            if at and not at % FEW:
                await asyncio.sleep(1.5)
            changes.add(change(at))

    lines = logged(work)
    assert [(level, facts["event"]) for level, facts in lines] == [("INFO", "route.changed")] * 5 * FEW
    assert lines[0][1]["action"] == "dial_temp_x"


def test_a_wave_is_counted_by_pool_and_loses_nothing_at_level_debug(logged: Callable[..., Lines]) -> None:
    async def work(changes: ChangeLog) -> None:
        for at in range(1000):
            changes.add(change(at))
            if at % 100 == 0:
                await asyncio.sleep(0.1)
        changes.add(change(1000, "FC2"))
        await asyncio.sleep(EVERY)

    lines = logged(work)
    levels = Counter(level for level, facts in lines if facts["event"] == "route.changed")
    assert levels == {"INFO": FEW + 1, "DEBUG": 1000 - FEW}
    assert {facts["subs_id"] for _, facts in lines if "subs_id" in facts} == {str(at) for at in range(1001)}
    [(level, summary)] = [line for line in lines if line[1]["event"] == "routes.changed"]
    assert level == "INFO"
    assert (summary["pool"], summary["count"]) == ("FC1", 1000 - FEW)
    assert summary["states"] == {"normal->temporary": 1000 - FEW}
    assert summary["actions"] == {"dial_temp_x": 1000 - FEW}


def test_a_long_wave_has_a_line_every_few_seconds_and_ends(logged: Callable[..., Lines]) -> None:
    async def work(changes: ChangeLog) -> None:
        for at in range(2000):
            changes.add(change(at))
            await asyncio.sleep(0.01)
        await asyncio.sleep(2 * EVERY)
        for at in range(2000, 2000 + FEW):
            changes.add(change(at))

    lines = logged(work)
    assert 3 <= len(counts(lines)) <= 5
    assert sum(counts(lines)) == 2000 - FEW
    assert [facts["event"] for _, facts in lines[-FEW:]] == ["route.changed"] * FEW
    assert [level for level, _ in lines[-FEW:]] == ["INFO"] * FEW


def test_what_is_counted_is_told_at_the_end(logged: Callable[..., Lines]) -> None:
    async def work(changes: ChangeLog) -> None:
        for at in range(100):
            changes.add(change(at))

    assert counts(logged(work)) == [100 - FEW]


def test_a_wave_of_few_ends_with_the_log(logged: Callable[..., Lines]) -> None:
    async def work(changes: ChangeLog) -> None:
        for at in range(FEW + 2):
            changes.add(change(at))

    assert counts(logged(work)) == [2]


def test_registrations_start_no_wave(logged: Callable[..., Lines]) -> None:
    async def work(changes: ChangeLog) -> None:
        for at in range(100):
            changes.add(change(at, cause=WriteCause.REGISTERED))
        changes.add(change(100))

    lines = logged(work)
    assert [level for level, _ in lines] == ["DEBUG"] * 100 + ["INFO"]
