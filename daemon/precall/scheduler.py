"""The one importer of APScheduler: a handful of coarse jobs, never one per binding.

A job that is late is run once, not dropped (its defaults would drop it after a second), and never beside itself.
"""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC

from apscheduler.events import EVENT_JOB_ERROR, JobExecutionEvent
from apscheduler.schedulers.asyncio import AsyncIOScheduler
from apscheduler.triggers.interval import IntervalTrigger

from precall.log import get_logger

log = get_logger(__name__)


class Scheduler:
    """Runs coroutine functions every so many seconds, in the running loop."""

    def __init__(self) -> None:
        self._scheduler = AsyncIOScheduler(
            timezone=UTC,
            job_defaults={"coalesce": True, "max_instances": 1, "misfire_grace_time": None},
        )
        self._scheduler.add_listener(_complain, EVENT_JOB_ERROR)

    def every(self, seconds: float, job: Callable[[], Awaitable[None]], name: str) -> None:
        """Run `job` every `seconds`, first after that time; in place of one of that name, if there is one."""
        trigger = IntervalTrigger(seconds=seconds, timezone=UTC)
        self._scheduler.add_job(job, trigger, id=name, name=name, replace_existing=True)

    def once(self, job: Callable[[], Awaitable[None]], name: str) -> None:
        """Run `job` as soon as it can be."""
        self._scheduler.add_job(job, id=name, name=name)

    def start(self) -> None:
        """Begin. The loop must be running."""
        self._scheduler.start()

    def pause(self) -> None:
        """Start no further run; those under way go on. `stop` would cancel them: drain in between."""
        self._scheduler.pause()

    def stop(self) -> None:
        """End, cancelling what still runs."""
        self._scheduler.shutdown(wait=False)


def _complain(event: JobExecutionEvent) -> None:
    if isinstance(event.exception, asyncio.CancelledError):
        return  # we are stopping
    log.error("job.broken", job=event.job_id, exc_info=event.exception)
