"""Six incidents: API, `/readyz`, `precall status` and a notification name cause and remedy, and clear after the end.

None of them shows a number.
"""

import asyncio
import json
import shlex
import signal
import sqlite3
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import pytest
from tests.acceptance.test_cli import precall
from tests.acceptance.test_cli import serving as in_process
from tests.support.api_daemon import A, B, Served, X, a_binding, scripted, serving
from tests.support.locked import locked
from tests.support.patience import BRIEF, PATIENCE, until
from tests.support.webhook import Webhook, webhook

from precall.simulator import Fault

pytestmark = [pytest.mark.slow, pytest.mark.timeout(2 * PATIENCE)]

MANY = 60
QUICK = {"min_interval": "50ms", "abnormal_min_interval": "50ms", "max_age": "60s"}
HOUR = "2099-01-01 00:00:00+00:00"


@pytest.fixture
def hook() -> Iterator[Webhook]:
    """Where people are notified."""
    with webhook() as hook:
        yield hook


def notifying(hook: Webhook) -> dict[str, Any]:
    """The section `[notify]` for this webhook."""
    return {"urls": [hook.url], "min_severity": "warning"}


async def notified(hook: Webhook, finding: dict[str, Any]) -> None:
    """Wait for the message that a finding has appeared; it names cause and remedy, and shows no number."""
    link = f"/runbook#{finding['code']}"
    await until(lambda: any(link in post["message"] for post in hook.posts))
    [message, *_] = [post["message"] for post in hook.posts if link in post["message"]]
    assert f"Remedy: {finding['remedy']}" in message
    assert finding["cause"].partition("(RequestId")[0] in message
    assert not any(number in json.dumps(hook.posts) for number in (X, A, B))


async def notified_of_the_end(hook: Webhook) -> None:
    """Wait for the message that something is over."""
    await until(lambda: any("over after" in json.dumps(post) for post in hook.posts))
    assert not any(number in json.dumps(hook.posts) for number in (X, A, B))


@asynccontextmanager
async def in_service(folder: Path, hook: Webhook | None = None, **more: Any) -> AsyncIterator[Served]:
    """A daemon with bindings that have been checked."""
    if hook is not None:
        more["notify"] = notifying(hook)
    async with serving(folder, scripted(*[1] * MANY), rate=200.0, freshness=QUICK, **more) as served:
        bindings = [a_binding(subs_id=str(place)) for place in range(1, MANY + 1)]
        await served.ask("POST", "/v1/bindings/batch", {"bindings": bindings})
        await over(served)
        yield served


def strike(served: Served, kind: str, **facts: Any) -> None:
    fault = Fault.model_validate({"kind": kind, **facts})
    served.simulator.service.faults.add(fault, served.daemon.clocks.now())


async def command(served: Served, *args: str) -> "subprocess.CompletedProcess[str]":
    return await asyncio.to_thread(precall, *args, url=served.url)


async def obey(served: Served, remedy: str) -> None:
    """Run a remedy, as an operator who pastes it would."""
    program, *args = shlex.split(remedy, comments=True)
    assert program == "precall"
    assert (await command(served, *args)).returncode == 0


async def state(served: Served, language: str = "en") -> dict[str, Any]:
    status, found = await served.ask("GET", "/v1/status", headers={"Accept-Language": language})
    assert status == 200, found
    return found  # type: ignore[no-any-return]


async def shown(served: Served, *codes: str) -> dict[str, dict[str, Any]]:
    """Wait until these are found, among others perhaps. Return them by code, as every place shows them."""
    async with asyncio.timeout(PATIENCE):
        while not set(codes) <= {finding["code"] for finding in (await state(served))["findings"]}:
            await asyncio.sleep(0.05)
    chinese = await state(served, "zh-CN,zh;q=0.9,en;q=0.8")
    found = await state(served)
    ready = (await served.ask("GET", "/readyz"))[1]
    said = await command(served, "status")
    in_chinese = await command(served, "status", "--lang", "zh")
    assert said.returncode == in_chinese.returncode == 1
    by_code = {finding["code"]: finding for finding in found["findings"]}
    _, figures = await served.ask("GET", "/metrics")
    for code in codes:
        assert code in ready["findings"]
        assert any(line.startswith(f"{code}: ") for line in ready["degraded"])
        assert f'precall_finding{{code="{code}"}} 1.0' in figures
        for text in ("summary", "cause", "remedy"):
            assert by_code[code][text]
        assert by_code[code]["remedy"] in said.stdout
        assert by_code[code]["runbook"] == f"/runbook#{code}"
        assert f": {code}" in in_chinese.stdout
    texts = [json.dumps(one, ensure_ascii=False) for one in (found, chinese, ready)]
    for text in (*texts, said.stdout, in_chinese.stdout):
        assert not any(number in text for number in (X, A, B))
    return by_code


async def over(served: Served, *codes: str) -> None:
    """Wait until these are found no more, or nothing is; then `precall status` says so."""
    async with asyncio.timeout(PATIENCE):
        while True:
            found = {finding["code"] for finding in (await state(served))["findings"]}
            if not (found & set(codes) if codes else found):
                break
            await asyncio.sleep(0.05)
    said = (await command(served, "status")).stdout
    assert not any(f": {code} " in said for code in codes)


@pytest.mark.slow(seconds=10)
async def test_a_pool_is_exhausted_and_the_brake_holds_calls(tmp_path: Path, hook: Webhook) -> None:
    async with in_service(tmp_path, hook, brake={"floor": 5}) as served:
        strike(served, "outage", status=3, pool_key="FC1")
        found = await shown(served, "brake_engaged", "pool_in_trouble")
        brake, pool = found["brake_engaged"], found["pool_in_trouble"]
        assert (brake["severity"], brake["pool_key"], pool["severity"]) == ("critical", "FC1", "warning")
        assert "5 bindings (cap 5)" in brake["summary"]
        assert (await state(served))["verdict"] == "misleading"
        await notified(hook, brake)
        served.simulator.service.faults.clear()
        await over(served, "pool_in_trouble")
        await obey(served, brake["remedy"])
        await over(served)
        await notified_of_the_end(hook)


@pytest.mark.slow(seconds=10)
async def test_the_account_is_refused(tmp_path: Path, hook: Webhook) -> None:
    async with in_service(tmp_path, hook) as served:
        strike(served, "error", code="OUT_OF_SERVICE")
        refused = (await shown(served, "account_refused"))["account_refused"]
        found = await state(served)  # a later refusal has another RequestId
        [again] = [one for one in found["findings"] if one["code"] == "account_refused"]
        assert refused["cause"].startswith("The provider said OUT_OF_SERVICE: the account is in arrears")
        assert f"(RequestId {found['provider']['refusal']['request_id']})" in again["cause"]
        await notified(hook, refused)
        served.simulator.service.faults.clear()
        assert (await served.ask("POST", "/v1/bindings/1/check"))[1]["outcome"] == "answered"
        await over(served)
        await notified_of_the_end(hook)


@pytest.mark.slow(seconds=30)
async def test_the_provider_resets_connections(tmp_path: Path, hook: Webhook) -> None:
    async with in_service(tmp_path, hook) as served:
        strike(served, "reset")
        failing = (await shown(served, "provider_failing"))["provider_failing"]
        assert "reset: the connection was dropped before a reply" in failing["cause"]
        out_of_reach = (await shown(served, "provider_out_of_reach"))["provider_out_of_reach"]
        assert out_of_reach["severity"] == "critical"
        await notified(hook, out_of_reach)
        served.simulator.service.faults.clear()
        await over(served)
        await notified_of_the_end(hook)


@pytest.mark.slow(seconds=10)
async def test_the_database_is_frozen(tmp_path: Path, hook: Webhook) -> None:
    async with in_service(tmp_path, hook, store_timeout=BRIEF) as served:
        async with locked(tmp_path / "precall.db", "EXCLUSIVE"):
            assert (await served.ask("PUT", "/v1/bindings/1000", a_binding(subs_id="1000")))[0] == 503
            down = (await shown(served, "database_down"))["database_down"]
            assert down["cause"].startswith("The database said: ")
            assert (await state(served))["store"]["down_since"] == down["since"]
            await notified(hook, down)
        await over(served)
        await notified_of_the_end(hook)


@pytest.mark.slow(seconds=10)
async def test_the_source_refuses_removals(tmp_path: Path, hook: Webhook) -> None:
    file = tmp_path / "customer.db"
    with closing(sqlite3.connect(file)) as customer, customer:
        customer.execute(
            "CREATE TABLE relations (subs_id, pool_key, number_x, number_a, number_b, expires_at)"
        )
        rows = [(str(place), "FC1", X, A, B, HOUR) for place in range(1, MANY + 1)]
        customer.executemany("INSERT INTO relations VALUES (?, ?, ?, ?, ?, ?)", rows)
    source = {"url": f"sqlite:///{file}", "query": "SELECT * FROM relations", "every": "1s"}
    async with serving(
        tmp_path, scripted(*[1] * MANY), rate=200.0, freshness=QUICK, source=source, notify=notifying(hook)
    ) as served:
        while len(served.daemon.parts.table) < MANY:
            await asyncio.sleep(0.05)
        await over(served)
        with closing(sqlite3.connect(file)) as customer, customer:
            customer.execute("DELETE FROM relations WHERE subs_id <= '3'")
        refused = (await shown(served, "removals_refused"))["removals_refused"]
        gone = (await state(served))["source"]["withheld"]
        assert f"no longer has {gone} live bindings" in refused["summary"]
        assert "max_removals" in refused["cause"]
        await notified(hook, refused)
        await obey(served, refused["remedy"].partition("if it has really ended: ")[2])
        await over(served)
        await notified_of_the_end(hook)


@pytest.mark.slow(seconds=10)
async def test_the_budget_is_too_small(tmp_path: Path, hook: Webhook) -> None:
    async with serving(
        tmp_path,
        scripted(*[1] * MANY),
        rate=2.0,
        freshness={"promise": "all", "max_age": "60s"},
        notify=notifying(hook),
    ) as served:
        bindings = [a_binding(subs_id=str(place)) for place in range(1, MANY + 1)]
        await served.ask("POST", "/v1/bindings/batch", {"bindings": bindings})
        short = (await shown(served, "budget_short"))["budget_short"]
        assert short["severity"] == "warning"
        assert f"at 2/s, checking {MANY} bindings takes 3 min, and 60 s is promised" in short["summary"]
        assert short["cause"] == "freshness.max_age needs 6/s, and provider.rate is 2/s."
        await notified(hook, short)
        for place in range(1, MANY - 9):
            await served.ask("DELETE", f"/v1/bindings/{place}")
        await over(served, "budget_short")
        await notified_of_the_end(hook)


async def test_the_state_is_watched_until_ctrl_c(tmp_path: Path) -> None:
    async with in_service(tmp_path) as served:
        with in_process(tmp_path, "status", "--watch", "--url", served.url) as watching:
            await until(lambda: watching.said.count("FINE: nothing is wrong") > 1)
            assert await asyncio.to_thread(watching.stop, signal.SIGINT) == 130
            assert "Traceback" not in watching.said


def test_a_daemon_out_of_reach_is_told_apart_from_one_in_trouble() -> None:
    for more in ((), ("--watch",), ("--json",)):
        ended = precall("status", *more, url="http://127.0.0.1:1")
        assert (ended.returncode, ended.stdout) == (4, "")
        assert "is `precall run` running there?" in ended.stderr
