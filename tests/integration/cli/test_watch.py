"""`precall watch` shows the state and each changed route, also after a restart of the daemon."""

import asyncio
import io
import socket
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from typer.testing import CliRunner

from precall.cli import app
from precall.cli.target import Target
from precall.cli.watch import Watching
from precall.cli.watch_view import WatchLines, WatchScreen
from precall.core.errors import OutOfReach, Refusal
from precall.core.status.texts import Language
from tests.support.api_daemon import scripted, serving, token
from tests.support.patience import PATIENCE, until

pytestmark = pytest.mark.slow(seconds=10)
AT = 1_767_323_045.0


class Seen:
    """A view that keeps what it was shown."""

    def __init__(self) -> None:
        self.verdicts, self.changes, self.whys = list[str](), list[tuple[str, str]](), list[str]()
        self.indexes = list[int]()

    def state(self, status: Mapping[str, Any]) -> None:
        self.verdicts.append(status["verdict"])

    def changed(self, routes: Sequence[Mapping[str, Any]]) -> None:
        self.changes += [(route["subs_id"], route["action"]) for route in routes]
        self.indexes += [route["index"] for route in routes]

    def lost(self, why: str) -> None:
        self.whys.append(why)


def watching(url: str, view: Seen, secret: str = "") -> Watching:
    return Watching(Target(url, secret), view, 0.2, Language.EN, time.monotonic)


def a_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


async def test_changes_are_shown_and_a_restart_is_survived(tmp_path: Path) -> None:
    port, seen = a_port(), Seen()
    api = {"listen": f"127.0.0.1:{port}"}
    looking = watching(f"http://127.0.0.1:{port}", seen)
    async with serving(tmp_path, scripted(1, 2), api=api) as served:
        task = asyncio.create_task(looking.run())
        await until(lambda: looking.index is not None)
        await served.register(subs_id="2")
        await served.checked("2")
        await until(lambda: ("2", "dial_temp_x") in seen.changes)
    await until(lambda: seen.whys)
    before = len(seen.verdicts)
    async with serving(tmp_path, scripted(1, 2), api=api) as served:
        await until(lambda: len(seen.verdicts) > before)
        await served.register(subs_id="1")
        await until(lambda: any(subs_id == "1" for subs_id, _ in seen.changes))
    assert len(seen.indexes) == len(set(seen.indexes))  # no change is shown again after the restart
    assert not task.done()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_what_cannot_begin_ends_at_once(tmp_path: Path) -> None:
    with pytest.raises(OutOfReach):
        async with asyncio.timeout(PATIENCE):
            await watching(f"http://127.0.0.1:{a_port()}", Seen()).run()
    secret, entry = token("dispatcher", "routes:read")
    async with serving(tmp_path, tokens=[entry]) as served:
        with pytest.raises(Refusal):
            async with asyncio.timeout(PATIENCE):
                await watching(served.url, Seen(), "wrong").run()
        seen = Seen()
        task = asyncio.create_task(watching(served.url, seen, secret).run())
        await until(lambda: seen.verdicts)
        task.cancel()


def a_status(*codes: str) -> dict[str, Any]:
    """An answer of `/v1/status` with these findings."""
    return {
        "verdict": "degraded" if codes else "fine",
        "findings": [
            {
                "code": code, "severity": "warning", "since": "2026-01-02T03:00:05.000Z", "pool_key": "FC1",
                "summary": f"{code} is wrong in a sentence that is longer than what is left on a narrow line.",
                "cause": "Something.", "remedy": "precall doctor  # find out", "runbook": f"/runbook#{code}",
            }
            for code in codes
        ],
        "daemon": {
            "version": "1", "role": "leading", "at": "2026-01-02T03:04:05.000Z",
            "started_at": "2026-01-02T03:00:00.000Z", "in_flight": 0,
        },
        "provider": {
            "rate": 80.0, "rate_configured": 80.0, "degraded_since": "", "refused_since": "", "failing": False,
        },
        "store": {"down_since": "", "error": "", "pending": 0},
        "table": {"oldest_age": 3.0, "age_limit": 30.0},
        "pools": [
            {
                "pool_key": f"FC{number}", "bindings": 10, "states": {"normal": 10}, "paused": False,
                "brake": {"engaged_since": "", "ordered": False, "used": 0, "cap": 20, "held": 0, "window": 600.0},
            }
            for number in range(30)
        ],
        "orders": [], "members": [],
        "source": {"configured": False, "error": "", "removals_refused": ""},
    }  # fmt: skip


def a_route(serial: int) -> dict[str, Any]:
    return {"subs_id": f"{10**15 + serial}", "action": "dial_temp_x", "reason": "status_2"}


@pytest.mark.parametrize(("width", "height"), [(80, 24), (160, 50), (40, 8)])
@pytest.mark.parametrize("language", Language)
def test_the_screen_fits_with_the_newest_change_first(width: int, height: int, language: Language) -> None:
    console = Console(file=io.StringIO(), width=width, height=height, force_terminal=True, color_system=None)
    with WatchScreen(console, language, lambda: AT) as view:
        view.state(a_status("brake_engaged", "paused", "throttled"))
        view.changed([a_route(serial) for serial in range(60)])
        view.lost("no daemon answers at http://127.0.0.1:8080: connection refused")
        lines = view.lines(width, height)
    assert len(lines) <= height
    assert all(line.cell_len <= width for line in lines)
    assert "http" in lines[0].plain
    told = [line.plain for line in lines if line.plain.startswith("03:04:05Z")]
    assert len(told) >= 1
    assert told[0].startswith(f"03:04:05Z  {10**15 + 59}  dial_temp_")


def test_lines_tell_each_change_once() -> None:
    out = io.StringIO()
    with WatchLines(
        Console(file=out, width=200, color_system=None, soft_wrap=True), Language.EN, lambda: AT
    ) as view:
        view.state(a_status())
        view.state(a_status("paused"))
        view.state(a_status("paused"))
        view.changed([a_route(1)])
        view.lost("connection refused")
        view.lost("connection refused")
        view.state(a_status())
    lines = [line.removeprefix("03:04:05Z  ") for line in out.getvalue().splitlines()]
    assert lines == [
        "FINE: nothing is wrong",
        "DEGRADED: something needs attention; dispatchers get right routes",
        "new paused: paused is wrong in a sentence that is longer than what is left on a narrow line.",
        f"{10**15 + 1}  dial_temp_x  status_2",
        "no answer: connection refused",
        "FINE: nothing is wrong",
        "over paused FC1",
    ]


def test_an_interval_that_would_only_burn_cpu_is_a_usage_error() -> None:
    assert CliRunner().invoke(app, ["watch", "--interval", "10ms"]).exit_code == 2
