"""The check loop feeds the watchdog itself. Once it hangs, nothing else does."""

import asyncio
import socket
import time
from pathlib import Path

import pytest

from precall.config.schema import Config
from precall.runtime.daemon import Daemon
from precall.runtime.systemd import SystemdNotifier
from tests.support.patience import PATIENCE, until


async def test_a_hung_check_loop_stops_feeding_the_watchdog(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = Config(
        provider={"endpoint": "http://127.0.0.1:9", "access_key_id": "i", "access_key_secret": "s"},  # type: ignore[arg-type]
        store={"url": f"sqlite:///{tmp_path}/precall.db"},  # type: ignore[arg-type]
        api={"listen": "127.0.0.1:0"},  # type: ignore[arg-type]
    )
    heard: list[bytes] = []
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(f"{tmp_path}/notify")
        manager.settimeout(0.0)
        loop = asyncio.get_running_loop()
        loop.add_reader(manager, lambda: heard.append(manager.recv(4096)))
        daemon = Daemon(config, supervisor=SystemdNotifier(f"{tmp_path}/notify", 0.3, time.monotonic))
        async with daemon.running():
            await until(lambda: heard.count(b"WATCHDOG=1") > 2)
            go_on, tick, hung = asyncio.Event(), daemon.parts.checker.tick, asyncio.Event()

            async def hang() -> None:
                hung.set()
                await go_on.wait()
                await tick()

            monkeypatch.setattr(daemon.parts.checker, "tick", hang)
            await asyncio.wait_for(hung.wait(), PATIENCE)
            await asyncio.sleep(0.2)  # the last notification of the tick before
            heard.clear()
            await asyncio.sleep(1.0)
            assert heard == []
            go_on.set()
            await until(lambda: b"WATCHDOG=1" in heard)
        loop.remove_reader(manager)
