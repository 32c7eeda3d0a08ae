"""Reloading: a configuration is applied completely or not at all, while reads and checks continue."""

import asyncio
import json
import re
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from precall.config.schema import load
from precall.runtime.daemon import Daemon
from precall.simulator import Scenario, Simulator
from tests.integration.engine.test_main_job import calls, fault, results
from tests.support.api_daemon import Served, a_binding, scripted, token
from tests.support.locked import locked
from tests.support.patience import until


def write(
    file: Path, endpoint: str, text: str = "", *, provider: str = "rate = 500", store: str = "", api: str = ""
) -> None:
    """A configuration: these lines of the sections every daemon here has, and `text`."""
    file.write_text(
        f'[provider]\nendpoint = "{endpoint}"\naccess_key_id = "demo"\n'
        f'access_key_secret = "demo-secret"\n{provider}\n'
        f'[store]\nurl = "sqlite:///{file.parent}/precall.db"\n{store}\n'
        f'[api]\nlisten = "127.0.0.1:0"\n{api}\n{text}\n'
    )


@dataclass(frozen=True, slots=True)
class Desk(Served):
    """A daemon that reads a file, and the pen to write it."""

    file: Path
    provider: str

    def write(self, text: str = "", *, endpoint: str = "", **sections: str) -> None:
        write(self.file, endpoint or self.provider, text, **sections)

    def keep_secret_in(self, secret: Path) -> None:
        """Have the access key's secret read from there."""
        inline, elsewhere = 'access_key_secret = "demo-secret"', f'access_key_secret_file = "{secret}"'
        self.file.write_text(self.file.read_text().replace(inline, elsewhere))

    async def reload(self) -> tuple[int, Any]:
        return await self.ask("POST", "/-/reload")

    async def reloaded(self) -> dict[str, list[str]]:
        """The keys of a good reload."""
        status, body = await self.reload()
        assert status == 200, body
        return {name: [one["key"] for one in found] for name, found in body.items()}

    async def gauges(self) -> tuple[float, float]:
        """Whether the newest load succeeded, and when one last did."""
        text = (await self.ask("GET", "/metrics"))[1]
        found = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
        name = "precall_config_last_reload_success"
        return float(found[f"{name}ful"]), float(found[f"{name}_timestamp_seconds"])


@asynccontextmanager
async def reloading(folder: Path, *statuses: int, **written: str) -> AsyncIterator[Desk]:
    """A daemon on `folder/precall.toml`, as `write` writes it."""
    simulator = Simulator(Scenario.model_validate(scripted(*statuses)))
    async with simulator.running() as provider:
        file = folder / "precall.toml"
        write(file, provider, **written)
        daemon = Daemon(load(file), read=lambda: load(file))
        async with daemon.running() as urls, aiohttp.ClientSession() as session:
            yield Desk(daemon, simulator, session, urls[0], file, provider)


async def test_an_unchanged_file_changes_nothing(tmp_path: Path) -> None:
    async with reloading(tmp_path) as desk:
        first = await desk.gauges()
        assert await desk.reload() == (200, {"changed": [], "needs_restart": []})
        ok, at = await desk.gauges()
        assert (ok, at > first[1]) == (1.0, True)


async def test_changed_keys_are_reported_and_in_force(tmp_path: Path) -> None:
    async with reloading(tmp_path, 3) as desk:
        await desk.register()
        assert (await desk.checked("1"))["action"] == "dial_real"
        desk.write(
            '[policy]\nfallback = "hold"\n[freshness]\nmin_interval = "7s"\nmax_age = "9m"\n'
            '[brake]\nfloor = 3\nshare = 0.5\n[source]\nevery = "1m"\n',
            provider='rate = 300\nburst = 30\nmax_in_flight = 7\ntimeout = "3s"\ncall_detail_rate_per_minute = 600',
            store='retention = "7d"\naudit_retention = "30d"',
        )
        status, body = await desk.reload()
        assert status == 200
        assert {"key": "policy.fallback", "before": '"dial_real"', "after": '"hold"'} in body["changed"]
        assert {"key": "provider.rate", "before": "500", "after": "300"} in body["changed"]
        assert (len(body["changed"]), body["needs_restart"]) == (13, [])
        assert (await desk.ask("GET", "/v1/routes/1"))[1]["reason"] == "policy_hold"
        checker, daemon = desk.daemon.parts.checker, desk.daemon
        assert (checker.quota.configured, checker.quota.burst, checker.max_in_flight) == (300.0, 30.0, 7)
        assert (daemon.parts.calls.quota.configured, daemon.parts.calls.quota.burst) == (9.0, 60.0)
        planner, brake = checker.planner, checker.brake
        assert (planner.price.rate, planner.min_interval, planner.max_age) == (300.0, 7.0, 540.0)
        assert (brake.floor, brake.share, daemon.config.store.retention) == (3, 0.5, 7 * 86_400.0)
        with closing(sqlite3.connect(tmp_path / "precall.db")) as database:
            assert database.execute("SELECT fallback, max_age FROM policy").fetchall() == [("hold", 540.0)]


async def test_keys_that_need_a_restart_are_reported_and_keep_their_values(tmp_path: Path) -> None:
    async with reloading(tmp_path) as desk:
        desk.write('[policy]\nskew = "9s"', store='history = "every"\ntimeout = "4s"', api="insecure = true")
        for _ in range(2):
            status, body = await desk.reload()
            assert (status, [one["key"] for one in body["needs_restart"]]) == (
                200,
                ["store.timeout", "store.history", "api.insecure"],
            )
        assert body["changed"] == [], "taken over by the first already"
        config = desk.daemon.config
        assert (config.policy.skew, config.store.history, config.api.insecure) == (9.0, "runs", False)


async def test_a_failed_reload_reports_every_mistake_and_changes_nothing(tmp_path: Path) -> None:
    async with reloading(tmp_path) as desk:
        _, at = await desk.gauges()
        desk.write('[policy]\nskew = "9s"\nfalback = "hold"\n[brake]\nshare = 7', provider="rate = 0")
        status, body = await desk.reload()
        assert (status, body["code"]) == (422, "bad_configuration")
        assert {one["field"] for one in body["errors"]} == {"policy.falback", "brake.share", "provider.rate"}
        assert await desk.gauges() == (0.0, at)
        assert (desk.daemon.config.policy.skew, desk.daemon.parts.checker.quota.configured) == (5.0, 500.0)
        desk.file.write_text("[policy")
        status, body = await desk.reload()
        assert (status, "is not valid TOML" in body["detail"]) == (422, True)
        desk.file.unlink()
        assert (await desk.reload())[0] == 422
        desk.write('[policy]\nskew = "9s"')
        assert await desk.reloaded() == {"changed": ["policy.skew"], "needs_restart": []}
        ok, later = await desk.gauges()
        assert (ok, later > at) == (1.0, True)


async def test_unreadable_files_fail_a_reload(tmp_path: Path) -> None:
    async with reloading(tmp_path) as desk:
        desk.write('[policy]\nskew = "9s"')
        desk.keep_secret_in(tmp_path / "none")
        status, body = await desk.reload()
        assert (status, body["field"]) == (422, "provider.access_key_secret_file")
        assert desk.daemon.config.policy.skew == 5.0


async def test_a_reload_never_shows_a_secret(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with reloading(tmp_path) as desk:
        desk.write(provider='security_token = ["hush-1"]')
        status, refused = await desk.reload()
        assert status == 422
        source = '[source]\nurl = "mysql://u:hush-3@h/d"\nquery = "hush-4"'
        desk.write(source, provider='security_token = "hush-2"')
        status, body = await desk.reload()
        assert status == 200
        assert {
            one["key"]: (one["before"], one["after"]) for one in [*body["changed"], *body["needs_restart"]]
        } == {
            "provider.rate": ("500", "20"),
            "provider.security_token": ('""', "(hidden)"),
            "source.url": ('""', "(hidden)"),
            "source.query": ('""', "(hidden)"),
        }
        assert "config.reloaded" in caplog.text
        assert not re.search("hush-[1-4]", caplog.text + str(body) + str(refused))


async def test_tokens_are_added_and_revoked_by_a_reload(tmp_path: Path) -> None:
    old, new = token("old", "admin"), token("new", "admin")

    def entry(of: tuple[str, dict[str, Any]]) -> str:
        return "\n".join(
            ["[[api.tokens]]", *(f"{key} = {json.dumps(value)}" for key, value in of[1].items())]
        )

    def bearer(of: tuple[str, dict[str, Any]]) -> dict[str, Any]:
        return {"headers": {"Authorization": f"Bearer {of[0]}"}}

    async with reloading(tmp_path, api=entry(old)) as desk:
        assert (await desk.reload())[0] == 401
        assert (await desk.ask("POST", "/-/reload", **bearer(new)))[0] == 401
        desk.write(api=entry(new))
        status, body = await desk.ask("POST", "/-/reload", **bearer(old))
        assert (status, [one["key"] for one in body["changed"]]) == (200, ["api.tokens"])
        assert new[1]["sha256"] not in str(body)
        assert (await desk.ask("POST", "/-/reload", **bearer(old)))[0] == 401
        assert (await desk.ask("POST", "/-/reload", **bearer(new)))[0] == 200


async def test_a_key_rotated_in_its_file_is_used_after_a_reload(tmp_path: Path) -> None:
    async with reloading(tmp_path, 1) as desk:
        await desk.register()
        await desk.checked("1")
        secret = tmp_path / "secret"
        secret.write_text("another-secret\n")
        desk.write()
        desk.keep_secret_in(secret)
        assert await desk.reloaded() == {
            "changed": ["provider.access_key_secret", "provider.access_key_secret_file"],
            "needs_restart": [],
        }
        _, body = await desk.ask("POST", "/v1/bindings/1/check")
        assert (body["outcome"], body["result"]) == ("failed", "account")
        secret.write_text("demo-secret\n")
        assert await desk.reloaded() == {"changed": [], "needs_restart": []}, (
            "the same key, though a new content"
        )
        credential = desk.daemon.account.provider.credentials.current()
        assert credential is not None
        assert credential.access_key_secret == "demo-secret"


async def test_calls_in_flight_finish_on_the_old_endpoint(tmp_path: Path) -> None:
    async with reloading(tmp_path, 1) as desk:
        await desk.register()
        await desk.checked("1")
        other = Simulator(Scenario.model_validate(scripted(2)))
        async with other.running() as elsewhere:
            fault(desk, "slow", delay="1s")
            slow = asyncio.create_task(desk.ask("POST", "/v1/bindings/1/check?timeout=5"))
            await until(lambda: desk.daemon.parts.checker.in_flight)
            desk.write(endpoint=elsewhere)
            assert (await desk.reloaded())["changed"] == ["provider.endpoint"]
            assert (await slow)[1]["result"] == "status_1", "of the one it was sent to"
            assert (await desk.checked("1"))["state"] == "temporary"


async def test_a_longer_brake_window_includes_earlier_exposures(tmp_path: Path) -> None:
    async with reloading(tmp_path, 3, 3, 3, text='[brake]\nfloor = 2\nshare = 0.0\nwindow = "200ms"') as desk:
        for subs_id in ("1", "2"):
            await desk.register(subs_id=subs_id)
            assert (await desk.checked(subs_id))["action"] == "dial_real"
        await until(lambda: not desk.daemon.parts.checker.brake.engaged("FC1", 3, desk.daemon.clocks.tick()))
        desk.write('[brake]\nfloor = 2\nshare = 0.0\nwindow = "1h"')
        assert await desk.reloaded() == {"changed": ["brake.window"], "needs_restart": []}
        await desk.register(subs_id="3")
        assert (await desk.checked("3"))["reason"] == "exposure_brake"


async def test_a_longer_brake_window_needs_the_database(tmp_path: Path) -> None:
    async with reloading(tmp_path, text='[brake]\nwindow = "1s"') as desk:
        desk.write('[brake]\nwindow = "1h"')
        (tmp_path / "precall.db").rename(tmp_path / "elsewhere.db")
        await desk.daemon.parts.store.close()
        status, body = await desk.reload()
        (tmp_path / "elsewhere.db").rename(tmp_path / "precall.db")
        assert (status, body["field"]) == (422, "brake.window")


async def test_the_policy_reaches_sql_readers_when_the_database_is_back(tmp_path: Path) -> None:
    async with reloading(tmp_path) as desk:
        async with locked(tmp_path / "precall.db"):
            desk.write('[policy]\nfallback = "hold"')
            assert await desk.reloaded() == {"changed": ["policy.fallback"], "needs_restart": []}
        await desk.daemon.each_minute()
        with closing(sqlite3.connect(tmp_path / "precall.db")) as database:
            assert database.execute("SELECT fallback FROM policy").fetchall() == [("hold",)]


@pytest.mark.slow(seconds=15)
async def test_under_load_no_read_fails_and_no_check_is_lost(tmp_path: Path) -> None:
    async with reloading(tmp_path, *[1] * 50, provider='rate = 500\ntimeout = "60s"') as desk:
        await desk.ask(
            "POST", "/v1/bindings/batch", {"bindings": [a_binding(subs_id=str(n)) for n in range(1, 51)]}
        )
        reads: list[tuple[int, str]] = []
        done = asyncio.Event()

        async def read() -> None:
            while not done.is_set():
                status, body = await desk.ask("GET", f"/v1/routes/{len(reads) % 50 + 1}?max_age=0.01")
                reads.append((status, body["action"]))

        readers = [asyncio.create_task(read()) for _ in range(8)]
        for turn in range(12):
            desk.write(
                f'[freshness]\nmin_interval = "{turn + 1}0ms"\n[policy]\nskew = "{turn}s"',
                provider=f'rate = {200 + turn}\nmax_in_flight = {8 + turn}\ntimeout = "6{turn}s"',
            )
            assert len((await desk.reloaded())["changed"]) >= 4
            seen = len(reads)
            await until(lambda seen=seen: len(reads) > seen + 20)  # type: ignore[misc]
        done.set()
        await asyncio.gather(*readers)
        assert set(reads) == {(200, "dial_x")}
        await until(lambda: not desk.daemon.parts.checker.in_flight)
        assert set(results(desk)) == {"status_1"}
        assert sum(results(desk).values()) == calls(desk)


async def test_the_scheduler_syncs_at_the_new_pace(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "theirs.db")) as theirs:
        theirs.execute("CREATE TABLE b (subs_id, pool_key, number_x, number_a)")
        theirs.commit()
        query = 'query = "SELECT * FROM b"'
        source = f'[source]\nurl = "sqlite:///{tmp_path}/theirs.db"\n{query}\n'
        async with reloading(tmp_path, 1, text=f'{source}every = "1h"') as desk:
            served = desk.daemon.parts.source
            assert served is not None
            await until(lambda: served.last.at)
            theirs.execute("INSERT INTO b VALUES ('1', 'FC1', '17000000001', '13800000001')")
            theirs.commit()
            desk.write(f'{source}every = "50ms"')
            assert await desk.reloaded() == {"changed": ["source.every"], "needs_restart": []}
            await until(lambda: len(desk.daemon.parts.table) == 1)
