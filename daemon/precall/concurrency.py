"""Background tasks that cannot die unseen, and a loop that is shared."""

import asyncio
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, TypeVar

T = TypeVar("T")


def guarded(
    work: Coroutine[Any, Any, T], name: str, broken: Callable[[BaseException], None]
) -> "asyncio.Task[T]":
    """Run `work` in a task. `broken` is called with the error that ends it, if one does; not for a cancellation."""

    def ended(task: "asyncio.Task[T]") -> None:
        if not task.cancelled() and (error := task.exception()):
            broken(error)

    task = asyncio.create_task(work, name=name)
    task.add_done_callback(ended)
    return task


async def cancel_and_wait(*tasks: "asyncio.Task[Any]") -> None:
    """Cancel the tasks and return once all have ended. Their results and errors are left to others."""
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks)


async def finish_or_cancel(tasks: "Iterable[asyncio.Task[Any]]", limit: float) -> None:
    """Return when all tasks have ended. Those still running after `limit` seconds are cancelled."""
    waiting = set(tasks)
    if waiting:
        _, late = await asyncio.wait(waiting, timeout=limit)
        await cancel_and_wait(*late)


def retrieve_exception(done: "asyncio.Future[Any]") -> None:
    """Retrieve the exception so that asyncio does not log it as never retrieved. A callback for `add_done_callback`."""
    if not done.cancelled():
        done.exception()


async def breathe(count: int, every: int) -> None:
    """Yield to the loop after each `every` items. To be awaited after item number `count`, the first being 1."""
    if count % every == 0:
        await asyncio.sleep(0)
