"""Run a handful of coarse jobs with APScheduler, never one per binding; and beats, which do without it.

A late job runs once and never overlaps itself. APScheduler's default would drop it after a second.

APScheduler plans by the wall clock but waits by the clock of the loop. When the wall clock is set, all plans are moved
by the same amount, so jobs run when they would have run. This is checked before each planning and by `replan`.
Beats use the clock of the loop alone: the check loop must not depend on the wall clock.
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
    """Calls `replan` before each look at what is due.

    Otherwise a step forward would run through every missed time, and a step back would wait as long as the step.
    """

    replan: Callable[[], None] | None = None

    def _process_jobs(self) -> float | None:
        # Not in `wakeup`, which looks a turn of the loop later: the clock may be set in between.
        if self.replan is not None:
            self.replan()
        seconds: float | None = super()._process_jobs()
        return seconds


class Scheduler:
    """Runs coroutine functions at fixed intervals in the running loop."""

    def __init__(self, wall: Callable[[], float], broken: Callable[[str], None] = lambda _name: None) -> None:
        """Needs a running loop. `wall` is the clock APScheduler plans by, which is the machine's (Unix seconds).

        `broken` is called with the name of a job that failed; the error is logged.
        """
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
        """Run `job` every `seconds`, first after one interval. It replaces a job of the same name."""
        self.replan()
        trigger = IntervalTrigger(seconds=seconds, timezone=UTC)
        self._scheduler.add_job(job, trigger, id=name, name=name, replace_existing=True)

    def once(self, job: Job, name: str) -> None:
        """Run `job` once, as soon as possible."""
        self.replan()
        self._scheduler.add_job(job, id=name, name=name)

    def beat(
        self,
        seconds: float,
        job: Job,
        name: str,
        ended: Callable[[BaseException], None] = lambda _error: None,
    ) -> None:
        """Run `job` every `seconds` of the loop's clock, whatever happens to the wall clock.

        A job that fails is logged and runs again. `ended` is called with an error that ends the beat itself.
        """
        work = beat(seconds, self._unless_paused(job), name, self._broken)
        self._beats.append(guarded(work, name, ended))

    def hasten(self, name: str) -> None:
        """Run the job of this name now, if there is one."""
        if not self._paused and (job := self._scheduler.get_job(name)) is not None:
            job.modify(next_run_time=datetime.fromtimestamp(self._wall(), UTC))

    def next_run(self, name: str) -> float | None:
        """When the job of this name runs next, in Unix seconds of the machine's clock; None if there is no such job."""
        job = self._scheduler.get_job(name)
        return job.next_run_time.timestamp() if job is not None and job.next_run_time else None

    def replan(self) -> None:
        """Move all plans by the amount that the wall clock was set since the last call."""
        if not (moved := self._clocks.step()):
            return
        for job in self._scheduler.get_jobs():
            if (planned := getattr(job, "next_run_time", None)) is not None:
                job.modify(next_run_time=planned + timedelta(seconds=moved))

    def start(self) -> None:
        """Start running jobs. The loop must be running."""
        self._scheduler.start()

    def pause(self) -> None:
        """Start no further runs. Runs in flight continue; drain them before `stop`, which cancels them."""
        self._paused = True
        self._scheduler.pause()

    def stop(self) -> None:
        """Stop, and cancel what still runs."""
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
    """Run `job` every `seconds` of the loop's clock until cancelled. A job that fails is logged and runs again.

    Missed runs are not made up for: a long run is followed by one run, not by several.
    """
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
