"""Background tasks: errors are passed on, cancellation is not an error, and the loop is shared."""

import asyncio
import gc

import pytest

from precall.concurrency import breathe, cancel_and_wait, guarded, retrieve_exception


async def _fail() -> None:
    raise RuntimeError("broken")


async def test_the_error_of_a_guarded_task_is_passed_on() -> None:
    broken = list[BaseException]()
    task = guarded(_fail(), "one", broken.append)
    assert task.get_name() == "one"
    with pytest.raises(RuntimeError):
        await task
    assert [str(error) for error in broken] == ["broken"]


async def test_a_guarded_task_that_ends_or_is_cancelled_is_not_broken() -> None:
    broken = list[BaseException]()
    await guarded(asyncio.sleep(0), "one", broken.append)
    other = guarded(asyncio.sleep(3600), "other", broken.append)
    await cancel_and_wait(other)
    await asyncio.sleep(0)
    assert (other.cancelled(), broken) == (True, [])


async def test_cancel_and_wait_leaves_errors_to_others_and_takes_none() -> None:
    await cancel_and_wait()
    task = asyncio.create_task(_fail())
    await asyncio.sleep(0)
    await cancel_and_wait(task)
    assert isinstance(task.exception(), RuntimeError)


@pytest.mark.slow(seconds=2)
async def test_a_retrieved_exception_is_not_reported_to_the_loop() -> None:
    reported = list[object]()
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: reported.append(context))
    for retrieve in (True, False):
        future = asyncio.get_running_loop().create_future()
        if retrieve:
            future.add_done_callback(retrieve_exception)
        future.set_exception(RuntimeError("unseen"))
        await asyncio.sleep(0)
        del future
        gc.collect()
        assert len(reported) == (0 if retrieve else 1)


async def test_breathe_yields_after_every_slice() -> None:
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    counting = asyncio.create_task(count())
    await asyncio.sleep(0)
    begun = turns
    for place in range(1, 10):
        await breathe(place, 3)
    assert turns - begun == 3
    await cancel_and_wait(counting)
