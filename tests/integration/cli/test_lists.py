"""The commands that list something, asked of a daemon: routes, history, orders, bindings, calls."""

import asyncio
import csv
import io
import json
from pathlib import Path

from typer.testing import CliRunner, Result

from precall.cli import app
from tests.support.api_daemon import Served, scripted, serving


async def asked(served: Served, *words: str) -> Result:
    command = [*words, "--url", served.url]
    return await asyncio.to_thread(CliRunner().invoke, app, command, env={"COLUMNS": ""})


async def rows(served: Served, *words: str) -> list[dict[str, str]]:
    result = await asked(served, *words, "--format", "csv")
    assert result.exit_code == 0, result.output
    return list(csv.DictReader(io.StringIO(result.stdout)))


async def test_routes_are_listed_and_looked_up(tmp_path: Path) -> None:
    async with serving(tmp_path, scripted(1, 2, 1)) as served:
        for subs_id in ("1", "2", "3"):
            await served.register(subs_id=subs_id)
            await served.checked(subs_id)
        _, page = await served.ask("GET", "/v1/routes")
        told = json.loads((await asked(served, "routes", "list", "--json")).stdout)["routes"]
        assert [route["subs_id"] for route in told] == ["1", "2", "3"]
        assert [route["number"] for route in told] == [route["number"] for route in page["routes"]]
        assert [
            row["subs_id"] for row in await rows(served, "routes", "list", "--action", "dial_temp_x")
        ] == ["2"]
        assert await rows(served, "routes", "list", "--stale") == []
        limited = await asked(served, "routes", "list", "--limit", "2")
        assert "the first 2; --limit shows more" in limited.stderr
        assert len(limited.stdout.splitlines()) == 3

        found = await asked(served, "routes", "lookup", "3", "1", "99", "--format", "jsonl")
        assert [json.loads(line)["subs_id"] for line in found.stdout.splitlines()] == ["3", "1"]
        assert (found.exit_code, found.stderr) == (1, "unknown: 99\n")
        assert (await asked(served, "routes", "lookup", "3", "1")).exit_code == 0


async def test_a_history_has_answers_changes_and_orders(tmp_path: Path) -> None:
    async with serving(tmp_path, scripted(2)) as served:
        await served.register(subs_id="1")
        await served.checked("1")
        given = await asked(served, "override", "set", "1", "hold", "--reason", "asked for")
        assert given.exit_code == 0
        assert (await asked(served, "pause", "--reason", "works")).exit_code == 0
        events = await rows(served, "history", "1")
        assert {event["event"] for event in events} == {"answer", "change", "order"}
        moments = [event["at"] for event in events]
        assert moments == sorted(moments, reverse=True)
        summaries = [event["summary"] for event in events]
        assert any(one.startswith("override hold by ") and one.endswith(": asked for") for one in summaries)
        assert any(one.startswith("pause for all pools by ") for one in summaries)
        [answer] = [event for event in events if event["event"] == "answer"]
        assert (answer["result"], answer["summary"].split()[0]) == ("status_2", "status_2")
        short = await asked(served, "history", "1", "--limit", "1")
        assert "the newest 1; --limit shows more" in short.stderr
        assert (await asked(served, "history", "99")).exit_code == 1


async def test_every_list_has_the_formats(tmp_path: Path) -> None:
    async with serving(tmp_path, scripted(1)) as served:
        await served.register(subs_id="1", labels={"city": "Hangzhou"})
        assert (await asked(served, "pause", "--reason", "works")).exit_code == 0
        [binding] = await rows(served, "bindings", "list")
        assert json.loads(binding["labels"]) == {"city": "Hangzhou"}
        assert "city=Hangzhou" in (await asked(served, "bindings", "list", "--format", "md")).stdout
        [order] = await rows(served, "orders", "list")
        assert (order["action"], order["reason"], order["in_force"]) == ("pause", "works", "true")
        assert "+08:00" in (await asked(served, "orders", "list", "--tz", "Asia/Shanghai")).stdout
        for words in (
            ("calls", "list"),
            ("exposures", "list"),
            ("person", "find", "--number", "+8613700000000"),
        ):
            empty = await asked(served, *words, "--format", "jsonl")
            assert empty.stdout == ""
        calls = await asked(served, "calls", "list", "--json")
        assert set(json.loads(calls.stdout)) == {"calls", "cursor", "backlog"}
