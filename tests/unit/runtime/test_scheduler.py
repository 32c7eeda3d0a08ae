"""Jobs go on in their own time, whatever becomes of the clock that APScheduler plans by."""

import asyncio
import datetime as dt
import logging
import time
from collections.abc import Awaitable, Callable

import apscheduler.schedulers.base
import apscheduler.triggers.interval
import pytest

from precall.runtime.scheduler import Scheduler, beat
from tests.support.patience import PATIENCE

DAY = 86_400.0


class Wall:
    """The machine's clock, set to some seconds off."""

    off = 0.0

    def __call__(self) -> float:
        return time.time() + self.off


@pytest.fixture
def wall(monkeypatch: pytest.MonkeyPatch) -> Wall:
    """What APScheduler, too, takes for the time."""
    clock = Wall()

    class Datetime(dt.datetime):
        @classmethod
        def now(cls, tz: dt.tzinfo | None = None) -> "Datetime":
            return cls.fromtimestamp(clock(), tz)

    for module in (apscheduler.schedulers.base, apscheduler.triggers.interval):
        monkeypatch.setattr(module, "datetime", Datetime)
    return clock


async def until(true: Callable[[], object]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not true():
            await asyncio.sleep(0.005)


def counting(runs: list[float]) -> Callable[[], Awaitable[None]]:
    async def run() -> None:
        runs.append(0.0)

    return run


@pytest.mark.parametrize("moved", [-300.0, -DAY, DAY, 400 * DAY, -400 * DAY])
@pytest.mark.slow(seconds=1)
async def test_a_job_goes_on_after_a_step(wall: Wall, moved: float) -> None:
    scheduler, runs = Scheduler(wall), list[float]()
    scheduler.every(0.05, counting(runs), "often")
    scheduler.start()
    try:
        await until(lambda: len(runs) >= 2)
        for off in (moved, 0.0, moved, 2 * moved):
            wall.off = off
            made = len(runs)
            await until(lambda made=made: len(runs) >= made + 3)  # type: ignore[misc]
    finally:
        scheduler.stop()


async def test_a_step_between_waking_up_and_looking_is_noticed(wall: Wall) -> None:
    scheduler, runs = Scheduler(wall), list[float]()
    scheduler.every(0.05, counting(runs), "often")
    scheduler.start()
    try:
        await until(lambda: runs)
        made = len(runs)
        scheduler.hasten("often")
        wall.off = -DAY
        await until(lambda: len(runs) >= made + 3)
    finally:
        scheduler.stop()


async def test_a_job_planned_far_ahead_keeps_its_distance(wall: Wall) -> None:
    scheduler = Scheduler(wall)
    scheduler.every(3600.0, counting([]), "hourly")
    scheduler.start()
    await asyncio.sleep(0)
    try:
        wall.off = -DAY
        scheduler.replan()
        assert (scheduler.next_run("hourly") or 0.0) - wall() == pytest.approx(3600.0, abs=PATIENCE)
        wall.off = DAY
        scheduler.every(1800.0, counting([]), "hourly")
        assert (scheduler.next_run("hourly") or 0.0) - wall() == pytest.approx(1800.0, abs=PATIENCE)
    finally:
        scheduler.stop()


async def test_a_step_while_a_job_runs_or_the_scheduler_is_paused_is_harmless(wall: Wall) -> None:
    scheduler, go_on, runs = Scheduler(wall), asyncio.Event(), list[float]()

    async def long() -> None:
        runs.append(0.0)
        await go_on.wait()

    scheduler.every(0.05, long, "long")
    scheduler.start()
    try:
        await until(lambda: runs)
        wall.off = -DAY
        scheduler.replan()
        go_on.set()
        await until(lambda: len(runs) >= 3)
        scheduler.pause()
        wall.off = DAY
        scheduler.replan()
        scheduler.hasten("long")
    finally:
        scheduler.stop()


async def test_a_job_can_be_run_ahead_of_its_time(wall: Wall) -> None:
    scheduler, runs = Scheduler(wall), list[float]()
    scheduler.every(3600.0, counting(runs), "hourly")
    scheduler.start()
    try:
        scheduler.hasten("none of this name")
        scheduler.hasten("hourly")
        await until(lambda: len(runs) == 1)
    finally:
        scheduler.stop()


async def test_a_beat_is_independent_of_the_wall_clock_and_survives_errors(
    wall: Wall, caplog: pytest.LogCaptureFixture
) -> None:
    scheduler, runs = Scheduler(wall), list[float]()

    async def beats() -> None:
        runs.append(0.0)
        if len(runs) == 2:
            raise ValueError("once")

    scheduler.start()
    scheduler.beat(0.01, beats, "heart")
    try:
        await until(lambda: len(runs) >= 3)
        wall.off = -DAY
        made = len(runs)
        await until(lambda: len(runs) >= made + 3)
        broken = [record for record in caplog.records if record.levelno == logging.ERROR]
        assert [record.msg["job"] for record in broken] == ["heart"]  # type: ignore[index]
        scheduler.pause()
        made = len(runs)
        ticked: list[float] = []
        other = asyncio.create_task(beat(0.01, counting(ticked), "other"))
        await until(lambda: len(ticked) >= 5)
        other.cancel()
        assert len(runs) == made
    finally:
        scheduler.stop()


async def test_a_failing_job_is_reported_and_runs_again() -> None:
    broken: list[str] = []
    runs = asyncio.Event()
    times = 0

    async def job() -> None:
        nonlocal times
        times += 1
        if times < 3:
            raise ValueError("not this time")
        runs.set()

    scheduler = Scheduler(time.time, broken.append)
    scheduler.beat(0.001, job, "heart")
    scheduler.start()
    async with asyncio.timeout(30):
        await runs.wait()
    scheduler.stop()
    assert broken == ["heart", "heart"]


async def test_a_failing_planned_job_is_reported() -> None:
    told = asyncio.Event()

    async def job() -> None:
        raise ValueError("never")

    scheduler = Scheduler(time.time, lambda name: told.set() if name == "planned" else None)
    scheduler.once(job, "planned")
    scheduler.start()
    async with asyncio.timeout(30):
        await told.wait()
    scheduler.stop()
