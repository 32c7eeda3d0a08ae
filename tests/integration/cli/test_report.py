"""`precall report --observe` as text, JSON and CSV, from a daemon that observes a pool."""

import asyncio
import csv
import io
import json
import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from typer.testing import CliRunner, Result

from precall.cli import app
from precall.cli.calls import waiting
from precall.cli.report_page import BAR
from tests.support.api_daemon import Served, scripted, serving


async def asked(served: Served, *words: str) -> Result:
    command = ["report", *words, "--url", served.url]
    return await asyncio.to_thread(CliRunner().invoke, app, command)


@asynccontextmanager
async def reported(folder: Path, observe: list[str]) -> AsyncIterator[Served]:
    """Bindings with Status 1, 2 and 3 in one pool, and calls on each a few seconds after the answers."""
    ahead = 0.0

    def wall() -> float:
        return time.time() + ahead

    async with serving(folder, scripted(1, 2, 3), wall=wall, policy={"observe": observe}) as served:
        for subs_id in ("1", "2", "3"):
            await served.register(subs_id=subs_id)
            await served.checked(subs_id)
        ahead = 5.0
        at = datetime.fromtimestamp(wall(), UTC).isoformat()
        ends = {
            "1": ["connected"] * 4 + ["failed", "busy"],
            "2": ["failed", "failed", "connected"],
            "3": ["failed"],
        }
        placed = [
            {"call_id": f"{subs_id}-{n}", "called_at": at, "subs_id": subs_id, "outcome": outcome}
            for subs_id, outcomes in ends.items()
            for n, outcome in enumerate(outcomes)
        ]
        status, answer = await served.ask("POST", "/v1/calls", placed)
        assert (status, {one["result"] for one in answer["results"]}) == (200, {"stored"})
        yield served


async def test_failed_calls_avoided_and_good_ones_changed(tmp_path: Path) -> None:
    async with reported(tmp_path, ["FC1"]) as served:
        _, body = await served.ask("GET", "/v1/report")
        [pool] = body["observed"]
        assert {name: pool[name] for name in ("pool_key", "calls", "unknown", "not_connected")} == {
            "pool_key": "FC1", "calls": 10, "unknown": 0, "not_connected": 1,
        }  # fmt: skip
        avoided, changed = pool["avoided"], pool["changed"]
        assert (avoided["calls"], avoided["of"], avoided["dial_temp_x"], avoided["dial_real"]) == (3, 4, 2, 1)
        assert (changed["calls"], changed["of"], changed["dial_temp_x"], changed["hold"]) == (1, 5, 1, 0)
        assert avoided["low"] < avoided["share"] == 0.75 < avoided["high"]
        examples = {one["call_id"]: one for one in pool["examples"]}
        assert set(examples) == {"2-0", "2-1", "2-2", "3-0"}
        history = (await served.ask("GET", "/v1/bindings/3/history"))[1]["results"]
        assert (examples["3-0"]["action"], examples["3-0"]["request_id"]) == (
            "dial_real",
            history[0]["request_id"],
        )
        _, call = await served.ask("GET", "/v1/calls/2-0")
        assert (call["route_state"], call["route_action"]) == ("temporary", "dial_temp_x")

        text = (await asked(served, "--observe", "--within", "7d")).stdout
        assert (
            "pool FC1: precall would have avoided 3 of 4 failed calls (75%; 95% interval 30 to 95%)" in text
        )
        assert ": dial_temp_x 2, dial_real 1\n" in text
        assert "  and changed 1 of 5 good calls (20%; 95% interval 4 to 62%): dial_temp_x 1\n" in text
        assert examples["3-0"]["request_id"] in text
        told: dict[str, Any] = json.loads((await asked(served, "--observe", "--json")).stdout)
        assert told["observed"] == body["observed"]
        [row] = csv.DictReader(io.StringIO((await asked(served, "--observe", "--csv")).stdout))
        assert (row["pool_key"], row["failed"], row["avoided"], row["connected"], row["changed"]) == (
            "FC1", "4", "3", "5", "1",
        )  # fmt: skip
        plain = (await asked(served)).stdout
        assert "avoided" not in plain
        assert "FC1" in plain


async def test_a_pool_can_be_chosen_and_an_enforced_one_is_not_compared(tmp_path: Path) -> None:
    async with reported(tmp_path, ["FC9"]) as served:
        _, body = await served.ask("GET", "/v1/report")
        assert (body["observed"], body["total"]["placed"]) == ([], 10)
        none = await asked(served, "--observe")
        assert (none.exit_code, none.stdout) == (0, "")
        assert "policy.observe" in none.stderr
        named = await asked(served, "--observe", "--pool-key", "NOPE")
        assert "in pool NOPE while" in named.stderr
        _, elsewhere = await served.ask("GET", "/v1/report?pool_key=FC9")
        assert elsewhere["total"]["placed"] == 0
        assert "FC1" not in (await asked(served, "--pool-key", "FC9")).stdout
        assert "FC1" in (await asked(served, "--pool-key", "FC1")).stdout


def test_the_backlog_names_a_delay_only_where_there_is_one() -> None:
    assert waiting({"waiting": 0, "due": 0, "age_seconds": 0.0}) == "0 wait for the provider's answer"
    assert waiting({"waiting": 2, "due": 0, "age_seconds": 0.0}).endswith("; none of them is due yet")
    assert waiting({"waiting": 2, "due": 1, "age_seconds": 7.4}).endswith(
        "; 1 of them are due, the first for 7 s"
    )


async def grouped(served: Served, by: str) -> list[dict[str, Any]]:
    told = json.loads((await asked(served, "--by", by, "--json")).stdout)
    return [one for one in told["groups"] if one["of"]]


async def test_calls_are_put_together_with_their_number_and_an_interval(tmp_path: Path) -> None:
    async with reported(tmp_path, ["FC9"]) as served:
        [pool] = await grouped(served, "pool")
        assert (pool["group"], pool["placed"], pool["calls"], pool["of"], pool["share"]) == (
            "FC1", 10, 4, 10, 0.4,
        )  # fmt: skip
        assert (round(pool["low"], 3), round(pool["high"], 3)) == (0.168, 0.687)  # Wilson's, for 4 of 10
        states = {one["group"]: (one["calls"], one["of"]) for one in await grouped(served, "state")}
        assert states == {"normal": (1, 6), "temporary": (2, 3), "fallback": (1, 1)}
        causes = {one["group"]: one for one in await grouped(served, "cause")}
        assert (causes["failed"]["calls"], causes["failed"]["of"], causes["failed"]["at_fault"]) == (
            4,
            10,
            True,
        )
        assert (causes["busy"]["calls"], causes["busy"]["at_fault"]) == (1, False)
        [hour] = await grouped(served, "hour")
        _, calls = await served.ask("GET", "/v1/calls")
        assert hour["group"] == calls["calls"][0]["called_at"][:13] + ":00:00.000Z"
        assert (hour["calls"], hour["of"]) == (4, 10)

        table = (
            await asked(served, "--by", "cause", "--sort", "-calls", "--tz", "local")
        ).stdout.splitlines()
        assert table[0].split() == ["group", "calls", "of", "share", "low", "high", "meaning", "at_fault"]
        assert table[1].split()[:6] == ["failed", "4", "10", "40.0%", "16.8%", "68.7%"]
        chosen = await asked(
            served, "--by", "state", "--columns", "group,of", "--sort", "-of", "--format", "csv"
        )
        assert chosen.stdout == "group,of\nnormal,6\ntemporary,3\nfallback,1\n"
        shifted = (await asked(served, "--by", "hour", "--tz", "+05:30", "--format", "md")).stdout
        assert re.search(r"\| \S+:30:00.000\+05:30 \| 10 \|", shifted)
        _, plain = await served.ask("GET", "/v1/report")
        assert "groups" not in plain
        assert (await served.ask("GET", "/v1/report?by=colour"))[0] == 400


async def test_the_report_takes_the_options_of_lists(tmp_path: Path) -> None:
    async with reported(tmp_path, ["FC1"]) as served:
        chosen = await asked(served, "--columns", "route_state,placed", "--sort", "-placed", "--format", "md")
        assert chosen.stdout.splitlines()[2:] == ["| normal | 6 |", "| temporary | 3 |", "| fallback | 1 |"]
        observed = await asked(served, "--observe", "--columns", "pool_key,avoided", "--format", "jsonl")
        assert json.loads(observed.stdout) == {"pool_key": "FC1", "avoided": 3}
        for wrong in (
            ["--columns", "share"], ["--by", "pool", "--columns", "route_state"], ["--by", "pool", "--observe"],
            ["--by", "colour"], ["--csv", "--format", "md"], ["--html", "-", "--by", "hour"],
        ):  # fmt: skip
            assert (await asked(served, *wrong)).exit_code == 2, wrong


class Found(HTMLParser):
    """The tags of a page, what it loads, and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags, self.loaded, self.text = list[str](), list[str](), ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.loaded += [f"{tag} {name}" for name, _ in attrs if name in {"src", "href", "srcset", "data"}]

    def handle_data(self, data: str) -> None:
        self.text += data


async def test_the_page_needs_nothing_else_and_escapes_names(tmp_path: Path) -> None:
    async with reported(tmp_path, ["FC1"]) as served:
        evil = "<script>alert(1)</script>"
        await served.register(subs_id="4", pool_key=evil)
        at = datetime.fromtimestamp(time.time(), UTC).isoformat()
        call = {"call_id": "4-0", "called_at": at, "subs_id": "4", "outcome": "failed"}
        assert (await served.ask("POST", "/v1/calls", call))[0] == 200
        file = tmp_path / "report.html"
        written = await asked(served, "--html", str(file))
        assert (written.exit_code, written.stdout, written.stderr) == (0, "", f"written to {file}\n")
        page = file.read_text()
        found = Found(page)
        assert found.loaded == []
        assert not {"script", "link", "img", "iframe"} & set(found.tags)
        assert "url(" not in page
        assert evil not in page
        assert evil in found.text
        assert "Of 11 that ended, 5 failed for a reason that can be the fault of the number" in found.text
        for title in ("By hour", "By pool", "By state of the route", "By cause"):
            assert title in found.text
        assert "precall would have avoided 3 of 4 failed calls" in found.text
        assert found.tags.count("svg") == found.tags.count("rect") == found.tags.count("line") >= 8
        widths = [float(one) for one in re.findall(r'<rect [^>]*width="([\d.]+)"', page)]
        assert 0 < max(widths) <= BAR
        shown = await asked(served, "--html", "-", "--pool-key", "FC9")
        assert "pool FC9" in shown.stdout
        assert "None." in shown.stdout
