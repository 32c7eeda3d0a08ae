"""The log of dials end to end: written beside the checks, read over HTTP, replayed by the command line."""

import asyncio
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from precall.core.planning.sample import read
from tests.acceptance.test_cli import precall
from tests.support.api_daemon import A, B, Served, X, scripted, serving, token
from tests.support.patience import PATIENCE

ALL = {"dial_log": 1.0}


async def logged(served: Served, wanted: int) -> list[dict[str, Any]]:
    """The log, once it has so many lines."""
    async with asyncio.timeout(PATIENCE):
        while True:
            async with served.session.get(f"{served.url}/v1/dials") as reply:
                assert (reply.status, reply.content_type) == (200, "application/x-ndjson")
                lines = [json.loads(line) async for line in reply.content]
            if len(lines) >= wanted:
                return lines
            await asyncio.sleep(0.1)


async def checked(served: Served) -> None:
    async with asyncio.timeout(PATIENCE):
        while not (row := served.daemon.parts.table.get("1")) or not row.state.status:
            await asyncio.sleep(0.01)


async def test_the_dial_log_covers_a_lifetime_without_numbers_or_ids(tmp_path: Path) -> None:
    async with serving(tmp_path, scripted(2), store=ALL) as served:
        await served.register()
        await checked(served)
        await served.ask("GET", "/v1/routes/1")
        await served.ask("GET", "/v1/routes/1?dial=0")
        await served.ask("GET", "/v1/routes/1?max_age=3600")
        await served.ask("DELETE", "/v1/bindings/1")
        lines = await logged(served, 5)
    kinds = [line["kind"] for line in lines]
    assert kinds[0] == "add"
    assert kinds[-1] == "remove"
    assert Counter(kinds) == {"add": 1, "answer": 1, "dial": 2, "remove": 1}
    assert [line["verified"] for line in lines if line["kind"] == "dial"] == [False, True]
    assert len({line["binding"] for line in lines}) == len({line["x"] for line in lines}) == 1
    assert [bool(line["face"]) for line in lines] == [False, True, True, True, True]
    assert sorted(line["at"] for line in lines) == [line["at"] for line in lines]
    assert all(read(line).plain() == line for line in lines)
    for number in (X, A, B, "1000000", served.simulator.service.world.find("1").number_x):  # type: ignore[union-attr]
        assert number not in json.dumps(lines)


async def test_pseudonyms_survive_a_restart(tmp_path: Path) -> None:
    found = []
    for _ in range(2):
        async with serving(tmp_path, scripted(1), store=ALL) as served:
            await served.register()
            await served.ask("GET", "/v1/routes/1")
            await checked(served)
        async with serving(tmp_path, scripted(1), store=ALL) as served:
            found.append({line["binding"] for line in await logged(served, 3)})
    assert found[0] == found[1]
    assert len(found[0]) == 1


async def test_bindings_outside_the_sample_are_not_logged(tmp_path: Path) -> None:
    async with serving(tmp_path, scripted(1), store={"dial_log": 0.0}) as served:
        await served.register()
        await checked(served)
        await served.ask("GET", "/v1/routes/1")
        assert served.daemon.parts.writer.pending == 0 or await logged(served, 0) == []
    async with serving(tmp_path, scripted(1)) as served:
        assert await logged(served, 0) == []


async def test_old_dial_log_lines_are_deleted(tmp_path: Path) -> None:
    async with serving(tmp_path, scripted(1), store=ALL) as served:
        await served.register()
        lines = await logged(served, 2)
        await served.daemon.parts.store.retire(lines[-1]["at"] + 1)
        assert await logged(served, 0) == []


async def test_the_dial_log_requires_the_admin_scope(tmp_path: Path) -> None:
    secret, entry = token("reader", "routes:read", "routes:real", "bindings:write", "metrics")
    async with serving(tmp_path, tokens=[entry]) as served:
        headers = {"Authorization": f"Bearer {secret}"}
        assert (await served.ask("GET", "/v1/dials", headers=headers))[0] == 403


@pytest.mark.slow
async def test_the_replay_command_fetches_and_replays_the_dial_log(tmp_path: Path) -> None:
    async with serving(tmp_path, scripted(1), store=ALL) as served:
        await served.register()
        await checked(served)
        for _ in range(3):
            await served.ask("GET", "/v1/routes/1")
            await served.ask("POST", "/v1/bindings/1/check")
        await logged(served, 8)
        told = await asyncio.to_thread(precall, "dials", url=served.url)
    assert told.returncode == 0, told.stderr
    log = tmp_path / "log.jsonl"
    log.write_text(told.stdout)
    shown = await asyncio.to_thread(precall, "replay", log)
    assert shown.returncode == 0, shown.stderr
    assert [line.split()[0] for line in shown.stdout.splitlines()] == [
        "policy",
        "round",
        "intervals",
        "precall",
    ]
    answer = await asyncio.to_thread(precall, "replay", log, "--json", "--rate", "1", "--rate", "2")
    scores = json.loads(answer.stdout)
    assert [(score["policy"], score["rate"]) for score in scores][:3] == [
        ("round robin", 1.0),
        ("intervals", 1.0),
        ("precall", 1.0),
    ]
    assert len(scores) == 6
    refitted = await asyncio.to_thread(precall, "replay", "-", "--refit", stdin=log.read_text())
    assert "lam, pool FC1" in refitted.stdout
    log.write_text(told.stdout + "\n{}\nnonsense\n")
    garbage = await asyncio.to_thread(precall, "replay", log)
    assert garbage.returncode == 3
    last = len(told.stdout.splitlines())
    assert f"log.jsonl:{last + 2}: " in garbage.stderr
    assert f"log.jsonl:{last + 3}: " in garbage.stderr
