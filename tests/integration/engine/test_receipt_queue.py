"""The provider's message queues: received, stored, and only then deleted."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from precall.core.calls.call import CallResult
from precall.core.errors import StoreUnavailable
from precall.provider import MessageQueue
from precall.runtime.daemon import Daemon
from precall.simulator.message_queue import EXCEPTION_REPORT, exception_report
from tests.support.api_daemon import Served, scripted, serving
from tests.support.patience import PATIENCE, until

EXCEPTIONS = "Alicom-Queue-1234567890123456-SecretExceptionPhoneReport"
CALLS = "Alicom-Queue-1234567890123456-SecretReport"
RARELY = {"max_age": "1h", "min_interval": "30m"}
X = "17000000001"


@asynccontextmanager
async def reading(
    folder: Path, *statuses: int, queues: tuple[str, ...] = (EXCEPTIONS,), **more: Any
) -> AsyncIterator[Served]:
    """A daemon that reads the simulator's queues. Its bindings were checked once, and will hardly be again."""
    settings = {"names": queues, "every": 0.05, **more.pop("settings", {})}
    scenario = scripted(*statuses, queues=settings, **more.pop("scenario", {}))
    async with serving(
        folder, scenario, freshness=RARELY, receipts={"queue": list(queues)}, **more
    ) as served:
        for subs_id in map(str, range(1, len(statuses) + 1)):
            await served.register(subs_id=subs_id)
            await served.checked(subs_id)
        yield served


def report(at: float, **facts: Any) -> dict[str, Any]:
    return exception_report(X, "FC1", at, abnormal=True) | facts


async def counted(served: Served, name: str, **labels: str) -> float:
    _, text = await served.ask("GET", "/metrics")
    wanted = ",".join(f'{key}="{value}"' for key, value in labels.items())
    for line in text.splitlines():
        if line.startswith(f"precall_{name}{{{wanted}}} "):
            return float(line.rpartition(" ")[2])
    return 0.0


async def empty(served: Served) -> None:
    await until(lambda: not len(served.simulator.service.queues))


async def test_every_binding_on_an_x_gone_bad_is_checked(tmp_path: Path) -> None:
    async with reading(tmp_path, 1, 1, 1) as served:
        world, table = served.simulator.service.world, served.daemon.parts.table
        for subs_id in ("1", "2", "3"):
            world.change(subs_id, {}, {"status": 2, "called_no": f"1710000000{subs_id}"})

        def states() -> set[object]:
            return {row.state.status for subs_id in ("1", "2", "3") if (row := table.get(subs_id))}

        await until(lambda: states() == {2})
        await empty(served)
        assert await served.daemon.parts.store.calls.numbers(0.0)


async def test_a_flood_of_reports_stays_within_the_rate(tmp_path: Path) -> None:
    """Some 500 messages about one X with 30 bindings lead to checks of all, but to no more than the rate allows."""
    rate = 20.0
    async with reading(tmp_path, *[1] * 30, rate=rate) as served:
        service, clock = served.simulator.service, served.daemon.parts.monotonic
        table, now = served.daemon.parts.table, served.daemon.parts.clock()
        began, before = clock(), service.traffic.calls_received["QueryCallStatus"]
        for i in range(500):
            service.queues.put(EXCEPTION_REPORT, report(now + i / 1000))
        await empty(served)
        await until(
            lambda: all(
                (row := table.get(str(number))) and row.state.checked_at > now for number in range(1, 31)
            )
        )
        checks = service.traffic.calls_received["QueryCallStatus"] - before
        assert 30 <= checks <= rate + rate * (clock() - began)
        deleted = {"queue": EXCEPTION_REPORT, "result": "deleted"}
        assert await counted(served, "receipt_queue_messages_total", **deleted) == 500


async def test_garbage_is_counted_logged_by_place_and_deleted(tmp_path: Path) -> None:
    garbage: list[Any] = [
        b"\xff\xfe 17000000001",
        b"{",
        b'{"noStatus": 0, "noStatus": 1}',
        [],
        "17000000001",
        {"about": X},
        report(1.0, secretNo=f"{X} or so"),
        [report(2.0), {"noStatus": 5, "secretNo": X}],
    ]
    with capture_logs() as lines:
        async with reading(tmp_path, 1) as served:
            for content in garbage:
                served.simulator.service.queues.put(EXCEPTION_REPORT, content)
            await empty(served)
            assert [row[1] for row in await served.daemon.parts.store.calls.numbers(0.0)] == [2.0]
            assert await counted(served, "receipts_total", result="refused") == 7
    said = [line for line in lines if line["event"] == "receipts.not_understood"]
    assert sum(line["elements"] for line in said) == 7
    assert said[0]["queue"] == EXCEPTIONS
    assert X not in json.dumps(lines, default=str)


async def test_duplicates_change_nothing(tmp_path: Path) -> None:
    async with reading(tmp_path, 1, settings={"duplicates": 1.0}) as served:
        at = served.daemon.parts.clock()
        for _ in range(3):
            served.simulator.service.queues.put(EXCEPTION_REPORT, report(at))
        await empty(served)
        assert len(await served.daemon.parts.store.calls.numbers(0.0)) == 1


async def test_receipts_of_calls_come_by_queue_too(tmp_path: Path) -> None:
    habits = {"busy": 0, "no_answer": 0, "powered_off": 0, "talk": "10ms"}
    async with reading(
        tmp_path,
        1,
        queues=(EXCEPTIONS, CALLS),
        scenario={"habits": habits, "receipts": {"every": 0.05}},
        speed=1000.0,
    ) as served:
        service, now = served.simulator.service, served.daemon.parts.clock()
        binding = service.world.find("1")
        assert binding is not None
        placed = service.exchange.place(binding, binding.number_a, binding.number_x, now, handset=True)
        calls = served.daemon.parts.store.calls
        async with asyncio.timeout(PATIENCE):
            while not (found := await calls.get(placed.call_id)):
                await asyncio.sleep(0.05)
        assert found.result is CallResult.CONNECTED


async def test_a_message_stays_until_it_is_stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with reading(tmp_path, 1, settings={"visibility": "300ms"}) as served:
        queues, store = served.simulator.service.queues, served.daemon.parts.store.calls
        file, refused = store.file_numbers, asyncio.Event()

        async def refuse(*_args: Any) -> None:
            refused.set()
            raise StoreUnavailable("gone")

        monkeypatch.setattr(store, "file_numbers", refuse)
        queues.put(EXCEPTION_REPORT, report(served.daemon.parts.clock()))
        await asyncio.wait_for(refused.wait(), PATIENCE)
        assert len(queues) == 1
        monkeypatch.setattr(store, "file_numbers", file)
        await empty(served)
        assert len(await store.numbers(0.0)) == 1


async def test_a_message_stored_but_not_deleted_comes_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The daemon ends between the commit and the deletion; the next one deletes."""
    delete, deleting = MessageQueue.delete, asyncio.Event()

    async def hang(*_args: Any) -> None:
        deleting.set()
        await asyncio.Event().wait()

    async with reading(tmp_path, 1, settings={"visibility": "300ms"}) as served:
        queues, daemon = served.simulator.service.queues, served.daemon
        monkeypatch.setattr(MessageQueue, "delete", hang)
        queues.put(EXCEPTION_REPORT, report(daemon.parts.clock()))
        await asyncio.wait_for(deleting.wait(), PATIENCE)
        assert len(await daemon.parts.store.calls.numbers(0.0)) == len(queues) == 1
        config = daemon.parts.settings.config
    monkeypatch.setattr(MessageQueue, "delete", delete)
    async with served.simulator.running(port=int(config.provider.endpoint.rpartition(":")[2])):
        second = Daemon(config)
        async with second.running():
            await empty(served)
            assert len(await second.parts.store.calls.numbers(0.0)) == 1


async def test_a_queue_out_of_reach_is_told_and_stops_no_check(tmp_path: Path) -> None:
    with capture_logs() as lines:
        async with reading(tmp_path, 1) as served:
            queues = served.simulator.service.queues
            queues.broken = True
            queues.revoke_tokens()
            queues.put(EXCEPTION_REPORT, report(served.daemon.parts.clock()))
            await until_failing(served, 1.0)
            [line] = await served.shows("queue_failing")
            assert line.startswith("queue_failing: The provider's message queue cannot be read")
            assert EXCEPTION_REPORT in line
            assert (await served.checked("1"))["status"] == 1
            queues.broken = False
            await until_failing(served, 0.0)
            await served.shows()
            await empty(served)
    events = [line["event"] for line in lines if line["event"].startswith("receipt_queue.")]
    assert events == ["receipt_queue.failed", "receipt_queue.back"]


async def test_a_hung_queue_delays_neither_checks_nor_the_stop(tmp_path: Path) -> None:
    async with reading(tmp_path, 1) as served:
        served.simulator.service.queues.hung = True
        assert (await served.checked("1"))["status"] == 1


async def test_a_revoked_token_is_renewed(tmp_path: Path) -> None:
    async with reading(tmp_path, 1) as served:
        queues = served.simulator.service.queues
        queues.revoke_tokens()
        queues.put(EXCEPTION_REPORT, report(served.daemon.parts.clock()))
        await empty(served)
        assert served.simulator.calls_received["QueryTokenForMnsQueue"] >= 2


async def until_failing(served: Served, value: float) -> None:
    async with asyncio.timeout(PATIENCE):
        while await counted(served, "receipt_queue_failing", queue=EXCEPTION_REPORT) != value:
            await asyncio.sleep(0.05)
