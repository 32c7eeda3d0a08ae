"""The daemon as a process whose clock is set under it, by libfaketime: its checks, jobs and health go on."""

import asyncio
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from tests.support.api_daemon import a_binding, scripted
from tests.support.needs import faketime
from tests.support.patience import PATIENCE

from precall.simulator import Scenario, Simulator

pytestmark = [pytest.mark.slow, pytest.mark.needs("faketime"), pytest.mark.timeout(1200)]

DAY = 86_400
CONFIG = """
[provider]
endpoint = "{provider}"
call_detail_endpoint = "{provider}"
access_key_id = "demo"
access_key_secret = "demo-secret"
rate = 100
[store]
url = "sqlite:///{folder}/precall.db"
timeout = "60s"
[api]
listen = "127.0.0.1:0"
[freshness]
min_interval = "50ms"
max_age = "200ms"
"""


async def until(true: Callable[[], Awaitable[object]]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not await true():
            await asyncio.sleep(0.05)


@pytest.mark.slow(seconds=15)
async def test_the_daemon_keeps_working_when_the_clock_is_set(tmp_path: Path) -> None:
    clock, output = tmp_path / "clock", tmp_path / "output"
    clock.write_text("+0")
    simulator = Simulator(Scenario.model_validate(scripted(1)))
    async with simulator.running() as provider:
        config = tmp_path / "precall.toml"
        config.write_text(CONFIG.format(provider=provider, folder=tmp_path))
        faked = {
            "LD_PRELOAD": str(faketime()),
            "FAKETIME_TIMESTAMP_FILE": str(clock),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "DONT_FAKE_MONOTONIC": "1",
        }
        with output.open("wb") as out:
            daemon = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "precall", "run", "--config", str(config),
                stdout=out, stderr=out, env=os.environ | faked,
            )  # fmt: skip
        try:
            async with aiohttp.ClientSession() as session:
                await steps(session, output, clock, simulator)
            daemon.send_signal(signal.SIGTERM)
            async with asyncio.timeout(PATIENCE):
                assert await daemon.wait() == 0, output.read_text()
        finally:
            if daemon.returncode is None:
                daemon.kill()
                await daemon.wait()


async def steps(session: aiohttp.ClientSession, output: Path, clock: Path, simulator: Simulator) -> None:
    async def listens() -> bool:
        return "precall serves http" in output.read_text()

    await until(listens)
    url = output.read_text().partition("precall serves ")[2].split()[0]

    async def get(path: str) -> dict[str, Any]:
        async with session.get(f"{url}{path}") as response:
            return await response.json()  # type: ignore[no-any-return]

    async with session.put(f"{url}/v1/bindings/1", json=a_binding()) as response:
        assert response.status == 201, await response.text()

    async def checks_go_on() -> None:
        made = simulator.calls_received["QueryCallStatus"]

        async def more() -> bool:
            return simulator.calls_received["QueryCallStatus"] >= made + 5

        await until(more)

    await checks_go_on()
    # What the provider itself refuses, a clock a day ahead, is refused only while it is.
    for place, (off, signed_well) in enumerate([(-300, True), (0, True), (DAY, False), (-300, True)], 1):
        clock.write_text(f"{off:+d}")

        async def noticed(place: int = place) -> bool:
            return output.read_text().count("clock.stepped") >= place

        await until(noticed)
        if signed_well:
            await checks_go_on()
            route = await get("/v1/routes/1")
            assert (route["action"], route["reason"]) == ("dial_x", "status_1")
            assert route["age_ms"] >= 0
        assert (await get("/healthz"))["alive"]
