"""The one importer of APScheduler: a handful of coarse jobs, never one per binding; and what must not depend on it.

A job that is late is run once, not dropped (its defaults would drop it after a second), and never beside itself.

APScheduler plans by the wall clock, but waits by the loop's. So whenever the wall clock was set, all its plans are
moved by as much, and the jobs run when they would have run. That is looked at each time before it plans, and whenever
it is asked for. What the daemon lives by, its `beat`s, asks no wall clock at all.
"""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta

from apscheduler.events import EVENT_JOB_ERROR, JobExecutionEvent
from apscheduler.schedulers.asyncio import AsyncIOScheduler
from apscheduler.triggers.interval import IntervalTrigger

from precall.clocks import Clocks
from precall.concurrency import guarded
from precall.telemetry.logging import get_logger

log = get_logger(__name__)

Job = Callable[[], Awaitable[None]]


class _Replanning(AsyncIOScheduler):  # type: ignore[misc]
    """Calls `replan` before each look at what is due: a look after a step forward would run through every time missed,
    and one after a step back would wait as long as the step."""

    replan: Callable[[], None] | None = None

    def wakeup(self) -> None:
        if self.replan is not None:
            self.replan()
        super().wakeup()


class Scheduler:
    """Runs coroutine functions every so many seconds, in the running loop."""

    def __init__(self, wall: Callable[[], float], broken: Callable[[str], None] = lambda _name: None) -> None:
        """To be made in the running loop. `wall` is the clock that APScheduler plans by: the machine's own. `broken` is
        called with the name of a job that ended in an error, which is logged besides."""
        self._broken = broken
        self._wall, self._clocks = wall, Clocks(wall, asyncio.get_running_loop().time)
        self._scheduler = _Replanning(
            timezone=UTC,
            job_defaults={"coalesce": True, "max_instances": 1, "misfire_grace_time": None},
        )
        self._scheduler.replan = self.replan
        self._scheduler.add_listener(self._complain, EVENT_JOB_ERROR)
        self._beats: list[asyncio.Task[None]] = []
        self._paused = False

    def every(self, seconds: float, job: Job, name: str) -> None:
        """Run `job` every `seconds`, first after that time; in place of one of that name, if there is one."""
        self.replan()
        trigger = IntervalTrigger(seconds=seconds, timezone=UTC)
        self._scheduler.add_job(job, trigger, id=name, name=name, replace_existing=True)

    def once(self, job: Job, name: str) -> None:
        """Run `job` as soon as it can be."""
        self.replan()
        self._scheduler.add_job(job, id=name, name=name)

    def beat(
        self,
        seconds: float,
        job: Job,
        name: str,
        ended: Callable[[BaseException], None] = lambda _error: None,
    ) -> None:
        """Run `job` every `seconds` of the loop's clock from now on, without APScheduler: for what must go on whatever
        becomes of the wall clock. A job that fails is logged and goes on; `ended` is called with
        the error that ends the beat itself, should one do so."""
        work = beat(seconds, self._unless_paused(job), name, self._broken)
        self._beats.append(guarded(work, name, ended))

    def hasten(self, name: str) -> None:
        """Run the job of this name now, ahead of its time; no matter that there is none."""
        if not self._paused and (job := self._scheduler.get_job(name)) is not None:
            job.modify(next_run_time=datetime.fromtimestamp(self._wall(), UTC))

    def next_run(self, name: str) -> float | None:
        """When the job of this name runs next, in Unix seconds of the machine's clock; None if there is no such job."""
        job = self._scheduler.get_job(name)
        return job.next_run_time.timestamp() if job is not None and job.next_run_time else None

    def replan(self) -> None:
        """Move all plans by as much as the wall clock was set since the last time."""
        if not (moved := self._clocks.step()):
            return
        for job in self._scheduler.get_jobs():
            if (planned := getattr(job, "next_run_time", None)) is not None:
                job.modify(next_run_time=planned + timedelta(seconds=moved))

    def start(self) -> None:
        """Begin. The loop must be running."""
        self._scheduler.start()

    def pause(self) -> None:
        """Start no further run; those under way go on. `stop` would cancel them: drain in between."""
        self._paused = True
        self._scheduler.pause()

    def stop(self) -> None:
        """End, cancelling what still runs."""
        for beat in self._beats:
            beat.cancel()
        self._scheduler.shutdown(wait=False)

    def _unless_paused(self, job: Job) -> Job:
        async def run() -> None:
            if not self._paused:
                await job()

        return run

    def _complain(self, event: JobExecutionEvent) -> None:
        if isinstance(event.exception, asyncio.CancelledError):
            return  # we are stopping
        log.error("job.broken", job=event.job_id, exc_info=event.exception)
        self._broken(event.job_id)


async def beat(
    seconds: float, job: Job, name: str, broken: Callable[[str], None] = lambda _name: None
) -> None:
    """Run `job` every `seconds` of the loop's clock until cancelled. One that fails is logged, and goes on. What was
    missed is not made up for: a run that took long is followed by the next one, not by several."""
    loop = asyncio.get_running_loop()
    due = loop.time()
    while True:
        due = max(due + seconds, loop.time())
        await asyncio.sleep(due - loop.time())
        try:
            await job()
        except Exception as error:
            log.error("job.broken", job=name, exc_info=error)
            broken(name)
