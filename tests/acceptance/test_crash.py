"""Kill -9 at random moments, while customers write, dispatchers read and bindings change at the provider.

Nothing acknowledged or published is lost, indexes never decrease, and no answer is empty. A second run also suspends
the machine for longer than a write may take; the outcome of a commit is then unknown.

`PRECALL_TEST_SOAK_ROUNDS` sets the number of kills (2), `PRECALL_TEST_SEED` their moments.
"""

import asyncio
import json
import os
import random
import signal
from collections import Counter
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from tests.acceptance.test_cli import Server, serving
from tests.support.patience import PATIENCE
from tests.support.sealed import key_file
from tests.support.searched import assert_clean

from precall.store import Store

ROUNDS = int(os.environ.get("PRECALL_TEST_SOAK_ROUNDS", "2"))
SEED = int(os.environ.get("PRECALL_TEST_SEED", "1"))
WRITERS, OWN, READERS = 4, 10, 4
STALL = 3.3
"""Seconds: the `store.timeout` of these runs and some."""
WRITTEN, SEEN = 10, 50
"""How many writes and how many different routes there must be between two kills."""

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900 + 300 * ROUNDS)]

SCENARIO = """
[[pool]]
pool_key = "FC1"
bindings = 60
onset = "0s"
lifetime = "0s"
temporary_numbers = 100
[[pool]]
pool_key = "FC2"
bindings = 4
onset = "0s"
lifetime = "0s"
"""

CONFIG = """
[log]
level = "debug"
[provider]
endpoint = "{provider}"
call_detail_endpoint = "{provider}"
access_key_id = "demo"
access_key_secret = "demo-secret"
rate = 80
[store]
url = "{store}"
number_key_file = "{keys}"
timeout = "{timeout}"
[api]
listen = "127.0.0.1:0"
[brake]
floor = 1000
[freshness]
min_interval = "100ms"
abnormal_min_interval = "100ms"
max_age = "1s"
abnormal_max_age = "1s"
"""

Answer = tuple[int, dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Wanted:
    """The expected values of one binding.

    Its `turn` (a label increased by every registration), its A, and its override.
    """

    turn: int
    number_a: str
    order: str = ""


@dataclass(slots=True)
class Books:
    """What clients know: `must` has what was acknowledged, `may` what was sent without an answer."""

    facts: dict[str, dict[str, Any]]
    must: dict[str, Wanted | None] = field(default_factory=dict)
    may: dict[str, Wanted | None] = field(default_factory=dict)
    atomic: list[str] = field(default_factory=list)
    paused: set[bool] = field(default_factory=lambda: {False})
    highest: dict[str, int] = field(default_factory=dict)
    seen: dict[tuple[str, int], tuple[Any, ...]] = field(default_factory=dict)
    unsaved: set[tuple[str, int]] = field(default_factory=set)
    real: Counter[tuple[str, str]] = field(default_factory=Counter)
    followed: dict[int, str] = field(default_factory=dict)
    origin: int = -1
    position: int = -1
    calls: dict[str, set[str]] = field(default_factory=dict)
    tally: Counter[str] = field(default_factory=Counter)

    def body(self, subs_id: str, wanted: Wanted) -> dict[str, Any]:
        return self.facts[subs_id] | {"number_a": wanted.number_a, "labels": {"turn": str(wanted.turn)}}

    def send(self, subs_id: str, wanted: Wanted | None) -> None:
        self.may[subs_id] = wanted

    def acknowledged(self, subs_id: str) -> None:
        self.must[subs_id] = self.may.pop(subs_id)

    def surely_there(self, subs_id: str) -> bool:
        return self.must.get(subs_id) is not None and self.may.get(subs_id, ...) is not None

    def reborn(self) -> None:
        """Forget what was published as unsaved. It need not survive a kill."""
        self.highest = {}
        for subs_id, index in self.seen.keys() - self.unsaved:
            self.highest[subs_id] = max(index, self.highest.get(subs_id, 0))

    @property
    def adrift(self) -> bool:
        """Return whether a reader of the feed may have seen only unsaved changes."""
        begun_amid_trouble = bool(self.tally["stalled"]) and self.position == self.origin
        return begun_amid_trouble or any(index == self.position for _, index in self.unsaved)

    def look(self, route: dict[str, Any], floor: int) -> None:
        """Record a route that a reader received."""
        subs_id, index = route["subs_id"], route["index"]
        assert index >= floor, f"{subs_id} went back from {floor} to {index}"
        self.highest[subs_id] = max(index, self.highest.get(subs_id, 0))
        told = (route["version"], route["status"], route["state"])
        assert self.seen.setdefault((subs_id, index), told) == told, f"two routes of {subs_id} at {index}"
        if "unsaved" in route["flags"]:
            self.unsaved.add((subs_id, index))
        self.tally["read"] += 1


class Site:
    """One daemon's life."""

    def __init__(self, books: Books, url: str, provider: str, session: aiohttp.ClientSession) -> None:
        self.books, self.url, self.provider, self.session = books, url, provider, session

    async def ask(self, method: str, path: str, body: Any = None, *, at: str = "") -> Answer:
        async with self.session.request(method, f"{at or self.url}{path}", json=body) as response:
            text = await response.text()
            if response.status >= 400:
                assert_clean(text)
            return response.status, json.loads(text) if text else {}

    async def insist(self, method: str, path: str, body: Any = None) -> Answer:
        """Repeat the request until the database accepts it."""
        while True:
            status, answer = await self.ask(method, path, body)
            if status != 503:
                return status, answer
            self.books.tally["refused"] += 1
            await asyncio.sleep(0.05)

    async def write(self, chance: random.Random, own: list[str], *, first: bool) -> None:
        """A customer with bindings of their own; the first one is an operator too."""
        books = self.books
        while True:
            subs_id = chance.choice(own)
            stands = books.must.get(subs_id)
            turn = 1 + max((w.turn for w in books.must.values() if w), default=0)
            match chance.choice(["put", "put", "parties", "delete", "order", "lift", "batch", "pause"]):
                case "put" | "parties" as what:
                    wanted = replace(stands or self.fresh(subs_id), turn=turn)
                    if what == "parties" and stands is not None:
                        # Another A is another generation: the order ends with the old one.
                        wanted = Wanted(turn, f"138{chance.randrange(10**8):08}")
                    await self.put(subs_id, wanted)
                case "delete" if stands is not None:
                    books.send(subs_id, None)
                    status, _ = await self.insist("DELETE", f"/v1/bindings/{subs_id}")
                    assert status == 204
                    books.acknowledged(subs_id)
                case "order" if stands is not None:
                    books.send(subs_id, replace(stands, order=str(turn)))
                    body = {"action": "hold", "reason": str(turn)}
                    status, answer = await self.insist("PUT", f"/v1/overrides/{subs_id}", body)
                    assert status == 200, answer
                    books.acknowledged(subs_id)
                case "lift" if stands is not None and stands.order:
                    books.send(subs_id, replace(stands, order=""))
                    status, _ = await self.insist("DELETE", f"/v1/overrides/{subs_id}")
                    assert status == 204
                    books.acknowledged(subs_id)
                case "batch" if first:
                    await self.batch(own, turn)
                case "pause" if first:
                    wish = not next(iter(books.paused))
                    books.paused.add(wish)
                    path = "/v1/pause" if wish else "/v1/resume"
                    status, answer = await self.insist("POST", path, {"pool_key": "FC2", "reason": "test"})
                    assert status == 200, answer
                    books.paused = {wish}
            books.tally["written"] += 1
            await asyncio.sleep(chance.random() * 0.02)

    def fresh(self, subs_id: str) -> Wanted:
        return Wanted(0, self.books.facts[subs_id]["number_a"])

    async def put(self, subs_id: str, wanted: Wanted) -> None:
        self.books.send(subs_id, wanted)
        status, body = await self.insist("PUT", f"/v1/bindings/{subs_id}", self.books.body(subs_id, wanted))
        assert status in (200, 201), body
        self.books.acknowledged(subs_id)

    async def put_all(self) -> None:
        """Register every binding, a few at a time."""
        left = iter(self.books.facts)

        async def some() -> None:
            for subs_id in left:
                await self.put(subs_id, self.fresh(subs_id))

        await asyncio.gather(*(some() for _ in range(WRITERS)))

    async def batch(self, own: list[str], turn: int) -> None:
        """All or none of them."""
        books = self.books
        wanted = {i: replace(books.must.get(i) or self.fresh(i), turn=turn) for i in own}
        for subs_id, one in wanted.items():
            books.send(subs_id, one)
        books.atomic = own
        body = {"bindings": [books.body(subs_id, one) for subs_id, one in wanted.items()]}
        status, answer = await self.insist("POST", "/v1/bindings/batch?atomic=true", body)
        assert status == 200, answer
        books.atomic = []
        for subs_id in own:
            books.acknowledged(subs_id)

    async def read(self, chance: random.Random) -> None:
        """A dispatcher."""
        books, ids = self.books, list(self.books.facts)
        while True:
            subs_id = chance.choice(ids)
            there, floor = books.surely_there(subs_id), books.highest.get(subs_id, 0)
            status, route = await self.ask("GET", f"/v1/routes/{subs_id}")
            if status == 200:
                books.look(route, floor)
                if route["action"] == "dial_real" and route["number"]:
                    books.real[subs_id, "b"] += 1
            elif there and books.surely_there(subs_id):
                raise AssertionError(f"a blank answer for {subs_id}: {status} {route}")
            await asyncio.sleep(0.01 + chance.random() * 0.02)

    async def report(self, chance: random.Random) -> None:
        """A dispatcher and the provider, which report the results of calls, sometimes of the same one."""
        books, ids = self.books, list(self.books.facts)
        while True:
            serial = chance.randrange(10**9)
            call = {
                "call_id": f"c{serial}",
                "subs_id": chance.choice(ids),
                "called_at": "2026-01-02T03:04:05Z",
            }
            said, outcome = chance.choice([("failed", "failed"), ("busy", "not_connected")])
            status, body = await self.insist("POST", "/v1/calls", [call | {"outcome": said}])
            # A report refused during a commit may have been stored.
            known = ["known"] if books.tally["stalled"] else []
            assert (status, body["results"][0]["result"] in ["stored", *known]) == (200, True), body
            books.calls[call["call_id"]] = {outcome, "failed"}
            if chance.random() < 0.5:
                receipt = {"call_id": call["call_id"], "sub_id": call["subs_id"], "release_cause": 1}
                receipt |= dict.fromkeys(("call_time", "release_time"), "2026-01-02 11:04:05")
                status, body = await self.insist("POST", "/v1/receipts", [receipt])
                assert (status, body["code"]) == (200, 0), body
                books.calls[call["call_id"]] = {"failed"}
            books.tally["calls"] += 1
            await asyncio.sleep(chance.random() * 0.02)

    async def list(self) -> None:
        """A dispatcher that takes the whole table."""
        while True:
            floors = dict(self.books.highest)
            status, page = await self.ask("GET", "/v1/routes?limit=1000")
            assert status == 200, page
            for route in page["routes"]:
                self.books.look(route, floors.get(route["subs_id"], 0))
            await asyncio.sleep(0.2)

    async def follow(self) -> None:
        """A system that follows the changes, through every restart."""
        books = self.books
        if books.position < 0:
            await self.begin_to_follow()
        while True:
            status, body = await self.insist("GET", f"/v1/routes/changes?since={books.position}&wait=1")
            if status == 410 and books.adrift:
                await self.begin_to_follow()
                continue
            assert status == 200, body
            assert body["index"] >= books.position, "the feed went back"
            for route in body["changes"]:
                assert route["index"] > books.position
                books.followed[route["index"]] = route["subs_id"]
                if "unsaved" in route["flags"]:
                    books.unsaved.add((route["subs_id"], route["index"]))
            books.position = body["index"]

    async def begin_to_follow(self) -> None:
        async with self.session.get(f"{self.url}/v1/routes/snapshot") as response:
            self.books.origin = self.books.position = int(response.headers["X-Precall-Index"])

    async def stall(self, chance: random.Random, server: Server) -> None:
        """Suspend the process for a while."""
        while True:
            await asyncio.sleep(0.3 + 2.0 * chance.random())
            self.books.tally["stalled"] += 1
            server.process.send_signal(signal.SIGSTOP)
            try:
                await asyncio.sleep(STALL)
            finally:
                server.process.send_signal(signal.SIGCONT)

    async def unsettle(self, chance: random.Random) -> None:
        """What is true changes."""
        ids = list(self.books.facts)
        while True:
            path = f"/_admin/bindings/{chance.choice(ids)}"
            await self.ask("PATCH", path, {"status": chance.choice([1, 2, 3])}, at=self.provider)
            await asyncio.sleep(0.01)

    async def live(
        self, chance: random.Random, seconds: float, server: Server, *, stalls: bool = False
    ) -> None:
        """Everybody at once, until the daemon is killed."""
        ids = sorted(self.books.facts, key=lambda i: self.books.facts[i]["pool_key"])
        owned = [ids[place * OWN : (place + 1) * OWN] for place in range(WRITERS)]
        work: list[Coroutine[Any, Any, None]] = [
            self.write(chance, own, first=own is owned[0]) for own in owned
        ]
        work += [self.read(chance) for _ in range(READERS)]
        work += [self.list(), self.follow(), self.unsettle(chance), self.report(chance)]
        work += [self.stall(chance, server)] if stalls else []
        written, seen = self.books.tally["written"] + WRITTEN, len(self.books.seen) + SEEN
        tasks = [asyncio.create_task(one) for one in work]
        # On a busy machine the moment may come later, but never too early.
        for _ in range(int(PATIENCE / seconds)):
            over, _ = await asyncio.wait(tasks, timeout=seconds, return_when=asyncio.FIRST_EXCEPTION)
            if over or (self.books.tally["written"] > written and len(self.books.seen) > seen):
                break
        await asyncio.to_thread(server.look)
        alive = server.process.poll() is None
        server.process.kill()
        server.process.wait(PATIENCE)
        await asyncio.sleep(0.1)  # those whose connection broke fail by themselves
        for task in tasks:
            task.cancel()
        ended = await asyncio.gather(*tasks, return_exceptions=True)
        assert alive, server.said
        for error in ended:
            if isinstance(error, Exception) and not isinstance(error, aiohttp.ClientError | OSError):
                raise error


async def check_table(site: Site) -> None:
    """What was acknowledged is there; of what was in the air either all or nothing."""
    books = site.books
    became: dict[str, bool] = {}
    books.reborn()
    for subs_id, stands in list(books.must.items()):
        found = await found_at(site, subs_id)
        allowed = [stands, *([books.may[subs_id]] if subs_id in books.may else [])]
        assert found in allowed, f"{subs_id} is {found}, not one of {allowed}"
        if subs_id in books.may:
            became[subs_id] = found == books.may.pop(subs_id)
        books.must[subs_id] = found
    if books.atomic:
        assert len({became[subs_id] for subs_id in books.atomic}) == 1, "a batch was torn"
        books.atomic = []
    await check_calls(site)
    _, ready = await site.ask("GET", "/readyz")
    paused = "FC2" in ready["paused"]
    assert paused in books.paused
    books.paused = {paused}


async def found_at(site: Site, subs_id: str) -> Wanted | None:
    """What one binding is now."""
    books = site.books
    status, binding = await site.ask("GET", f"/v1/bindings/{subs_id}")
    async with asyncio.timeout(PATIENCE):
        while (
            status == 503
        ):  # the audit row of a real number takes longer than store.timeout on a busy machine
            await asyncio.sleep(0.1)
            status, binding = await site.ask("GET", f"/v1/bindings/{subs_id}")
    if status == 404:
        return None
    assert status == 200, binding
    floor = books.highest.get(subs_id, 0)
    _, route = await site.ask("GET", f"/v1/routes/{subs_id}?dial=0")
    books.look(route, floor)
    _, why = await site.ask("GET", f"/v1/bindings/{subs_id}/explain")
    pinned = why["override"]
    return Wanted(int(binding["labels"]["turn"]), binding["number_a"], pinned["reason"] if pinned else "")


async def check_calls(site: Site) -> None:
    """Every acknowledged call is stored with its reported result."""
    told: dict[str, str] = {}
    cursor, more = "", True
    while more:
        status, page = await site.ask("GET", f"/v1/calls?limit=1000&cursor={cursor}")
        assert status == 200, page
        told |= {call["call_id"]: call["result"] for call in page["calls"]}
        cursor = page["cursor"]
        more = bool(cursor)
    lost = {call_id for call_id, results in site.books.calls.items() if told.get(call_id) not in results}
    assert not lost, f"acknowledged and lost: {sorted(lost)[:5]}"


async def check_database(books: Books, url: str, keys: Path) -> None:
    """Every published change is in the history, in order and without gaps.

    Every real number handed out is in the audit.
    """
    store = await Store.open(url, auto_migrate=False, timeout=10.0, key_file=keys)
    try:
        high, _ = await store.high_water()
        told: dict[int, str] = {}
        answers: set[int] = set()
        position = books.origin - 1_000_000 if books.origin >= 0 else 0
        while position < high:
            found = await store.changes(position, high, limit=5000)
            assert found is not None
            told |= {change["index"]: change["subs_id"] for change in found[0]}
            answers |= {change["index"] for change in found[0] if change["cause"] == "checked"}
            position = found[1]
        audited: Counter[tuple[str, str]] = Counter()
        before, page = None, [{}]
        while page:
            page = await store.exposures(limit=1000, before_id=before)
            for row in page:
                audited[row["subs_id"], row["side"]] += row["count"]
                before = row["id"]
    finally:
        await store.close()
    lost = [key for key in books.seen if key not in books.unsaved and told.get(key[1]) != key[0]]
    assert not lost, f"seen and not stored: {lost[:5]}"
    stored = {index for index in told if books.origin < index <= books.position}
    # A change published as unsaved may have been stored later, or not.
    saved = {index for index, i in books.followed.items() if (i, index) not in books.unsaved}
    saved = {index for index in saved if index > books.origin}
    missed, unknown = sorted(stored - books.followed.keys()), sorted(saved - stored)
    if books.adrift and books.position not in told:
        missed = []  # it must take a snapshot
    if books.tally["stalled"]:
        # A refused request that was stored is undone, which is published.
        newest = {subs_id: index for index, subs_id in sorted(books.followed.items())}
        missed = [i for i in missed if i in answers or newest.get(told[i], 0) < i]
    assert not missed, f"stored and not told to who follows: {missed[:5]}, at {books.position}"
    assert not unknown, f"told to who follows and not stored: {unknown[:5]}, at {books.position}"
    unaudited = books.real - audited
    assert not unaudited, f"handed out without an audit: {unaudited}"


@asynccontextmanager
async def daemon(
    folder: Path, config: Path, provider: str, books: Books
) -> AsyncIterator[tuple[Server, Site]]:
    with serving(folder, "run", "--config", config) as server:
        url = await asyncio.to_thread(server.url, "precall serves")
        limit = aiohttp.ClientTimeout(total=PATIENCE)
        async with aiohttp.ClientSession(timeout=limit) as session:
            yield server, Site(books, url, provider, session)


@pytest.mark.parametrize(("timeout", "stalls"), [("10s", False), ("3s", True)], ids=["calm", "stalls"])
@pytest.mark.slow(seconds=125)
async def test_kill_9_loses_nothing_acknowledged_or_published(
    tmp_path: Path, store_url: str, timeout: str, stalls: bool
) -> None:
    chance = random.Random(SEED)
    scenario, exported = tmp_path / "scenario.toml", tmp_path / "bindings.jsonl"
    scenario.write_text(SCENARIO)
    simulate = ("simulate", "--listen", "127.0.0.1:0", "--scenario", scenario, "--export", exported)
    with serving(tmp_path, *simulate) as simulator:
        provider = await asyncio.to_thread(simulator.url, "simulator")
        config = tmp_path / "precall.toml"
        keys = key_file(tmp_path)
        config.write_text(CONFIG.format(provider=provider, store=store_url, keys=keys, timeout=timeout))
        found = [json.loads(line) for line in exported.read_text().splitlines()]
        books = Books({one["subs_id"]: one | {"expires_at": "2099-01-01T00:00:00Z"} for one in found})
        async with daemon(tmp_path, config, provider, books) as (server, site):
            await site.put_all()
            await site.live(chance, 1.0 + chance.random(), server, stalls=stalls)
        for _ in range(ROUNDS - 1):
            await check_database(books, store_url, keys)
            if chance.random() < 0.3:
                await stillborn(tmp_path, config, chance)
            async with daemon(tmp_path, config, provider, books) as (server, site):
                await check_table(site)
                await site.live(chance, 0.3 + 2.0 * chance.random(), server, stalls=stalls)
        async with daemon(tmp_path, config, provider, books) as (server, site):
            await check_table(site)
            assert await asyncio.to_thread(server.stop) == 0
            assert "Traceback" not in server.said
        await check_database(books, store_url, keys)
    print(dict(books.tally), len(books.seen), "routes seen,", sum(books.real.values()), "real")  # noqa: T201
    assert books.tally["written"] > WRITTEN * ROUNDS
    assert len(books.seen) > SEEN * ROUNDS
    assert books.followed
    assert books.calls
    assert books.real
    assert stalls or len(books.unsaved) < len(books.seen) // 10


async def stillborn(folder: Path, config: Path, chance: random.Random) -> None:
    """A daemon killed while it starts."""
    with serving(folder, "run", "--config", config):
        await asyncio.sleep(0.5 + chance.random())
