"""What the mission benchmark drives decides as the daemon does: the same events lead to the same checks and routes.

The daemon runs by a virtual clock with the simulator as its provider. It is the whole path: HTTP, signature, database.
"""

import asyncio
import sqlite3
from collections import Counter
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from precall.core.calls.suspicion import CallVerdict
from precall.core.model import Answer, Binding, Failure, NonAnswer, Policy, Reply, Status
from precall.core.planning.promise import choose, longest_age
from precall.core.routing.state import CheckResult
from precall.simulator import Scenario, Simulator
from tests.bench.mission.account import TICK, MissionAccount, MissionSettings, answered
from tests.support.virtual_time import VirtualLoop, one_daemon, run_virtual

pytestmark = pytest.mark.slow(30)

BINDINGS, RATE, BURST, BRAKE = 60, 1.5, 4.0, 2
"""At this rate no first check waits so long that it leaves its lane, which is a matter of seconds."""
SPEED = 100.0
START, END = 1_790_000_000.0, 4_000_000_000.0
WARM = 30
"""Seconds before the registration, in which calls are saved up."""
PACE = 600
"""Seconds after it."""
SPARE = 6
"""Checks by which the totals may differ."""
FEW = 2
"""Places among the first checks by which a few bindings may differ: requests take time in the daemon."""
MOVED = 4
"""Checks by which any binding may differ. Requests take time in the daemon, and what it learns a little later grows."""
CALLER = "13800000001"

Truth = dict[str, tuple[int, str]]
"""The provider's status and number by id; status 0 for no such binding."""


def wanted(place: int) -> Binding:
    return Binding(
        subs_id=str(place),
        pool_key=f"FC{place % 2}",
        number_x=f"170{place // 3:08d}",
        number_a=CALLER,
        number_b=f"139{place:08d}",
        expires_at=END,
    )


def changed(truth: Truth, stage: str) -> Truth:
    """What is true after an event of the script."""
    match stage:
        case "trouble":
            failing = {str(place): (2, f"171{place:08d}") for place in range(1, 11)}
            return truth | failing | {str(place): (3, "") for place in (11, 12, 13, 14)} | {"20": (4, "")}
        case "gone":
            return truth | {"21": (0, ""), "22": (0, "")}
        case "another number":
            return truth | {"1": (2, "17199999999")}
        case _:
            return truth | {str(place): (1, f"170{place // 3:08d}") for place in range(1, 15)}


SCRIPT = {120: "trouble", 300: "gone", 360: "another number", 420: "recovery"}
"""When the truth changes, in seconds after the registration."""
READS = {130: "3", 301: "21", 310: "21", 365: "1", 430: "12"}
"""When which binding is read with a live check."""
FAILED_CALLS = (200, 201, 202)
REPORTED, HINTED = "30", "40"
HINT_AT, DIAL_AT = 250, 260


@dataclass
class Course:
    """What came of the script: the checks in order, routes read with a live check, and all routes in the end."""

    checks: list[tuple[str, str]] = field(default_factory=list)
    reads: list[tuple[str, str, str]] = field(default_factory=list)
    routes: dict[str, tuple[str, str, str]] = field(default_factory=dict)


def told(route: Any) -> tuple[str, str, str]:
    facts = (
        route if isinstance(route, dict) else {k: getattr(route, k) for k in ("action", "number", "reason")}
    )
    return str(facts["action"]), str(facts["number"]), str(facts["reason"])


def in_the_core() -> Course:
    """The script, as the benchmark drives it."""
    truth: Truth = {}
    course = Course()

    def ask(binding: Binding, _now: float) -> Reply:
        status, number = truth[binding.subs_id]
        return Answer(Status(status), number) if status else NonAnswer(Failure.GONE, "isv.SUBS_NOT_EXIST")

    promise = choose("auto", None, longest_age(BINDINGS, RATE), Policy().max_age)
    account = MissionAccount(
        MissionSettings(RATE, BURST, Policy(promise=promise), brake_floor=BRAKE),
        ask,
        START - WARM,
        seed=1,
        on_check=course.checks.append,
    )
    for place in range(1, BINDINGS + 1):
        truth[str(place)] = (1, wanted(place).number_x)
    for place in range(1, BINDINGS + 1):
        account.register(wanted(place), START)
    clock = START
    for second in range(1, PACE + 1):
        while (at := max(clock, account.background_at(clock))) <= START + second:
            clock = at if account.tick(at) else at + TICK
        clock = now = START + second
        if second in SCRIPT:
            truth.update(changed(truth, SCRIPT[second]))
        if second in READS:
            course.reads.append(told(live(account, READS[second], now)))
        if second in FAILED_CALLS:
            account.report(REPORTED, CallVerdict(f"call-{second}", now, failed=True), "normal", now)
        if second == HINT_AT:
            account.hint(HINTED, START + DIAL_AT, now)
    for place in range(1, BINDINGS + 1):
        route = account.read(str(place), CALLER, clock, fresh=True, verified=True)
        course.routes[str(place)] = told(route)
    return course


def live(account: MissionAccount, subs_id: str, now: float) -> Any:
    asked, reply = account.start_on_demand(subs_id, now)  # type: ignore[misc]
    result = account.deliver(asked, reply, now)
    fresh, doubted = answered(result), result is CheckResult.GONE_UNCONFIRMED
    return account.read(subs_id, CALLER, now, fresh=fresh, verified=fresh, doubted=doubted)


async def in_the_daemon(loop: VirtualLoop, folder: Path, course: Course) -> None:
    """The script, with everything that is real."""
    truth: Truth = {str(place): (1, wanted(place).number_x) for place in range(1, BINDINGS + 1)}
    simulator = Simulator(Scenario.model_validate(SCENARIO), loop.wall)
    store = {"url": f"sqlite:///{folder}/precall.db", "timeout": "1h", "history": "every"}
    sections: dict[str, Any] = {"brake": {"floor": BRAKE}, "log": {"level": "error"}, "store": store}
    async with (
        simulator.running() as provider,
        one_daemon(loop, folder, provider, {"rate": RATE, "burst": BURST}, **sections) as (_, url),
        aiohttp.ClientSession(url) as session,
    ):
        await asyncio.sleep(WARM)

        async def ask(method: str, path: str, body: Any = None) -> Any:
            async with session.request(method, path, json=body) as response:
                assert response.status < 300, await response.text()
                return await response.json(content_type=None)

        bodies = [registration(wanted(place)) for place in range(1, BINDINGS + 1)]
        await ask("POST", "/v1/bindings/batch", {"bindings": bodies})
        begun, wall = loop.time(), loop.wall()
        for second in range(1, PACE + 1):
            await asyncio.sleep(max(0.0, begun + second - loop.time()))
            if second in SCRIPT:
                for subs_id, (status, number) in changed(truth, SCRIPT[second]).items():
                    if truth[subs_id] != (status, number):
                        script = {"status": status or 1, "called_no": number or None, "gone": not status}
                        simulator.service.world.change(subs_id, {}, script)
                        truth[subs_id] = status, number
            if second in READS:
                route = await ask("GET", f"/v1/routes/{READS[second]}?caller={CALLER}&max_age=0&timeout=5")
                course.reads.append(told(route))
            if second in FAILED_CALLS:
                call = {"call_id": f"call-{second}", "subs_id": REPORTED, "outcome": "failed"}
                await ask("POST", "/v1/calls", call | {"called_at": moment(loop.wall())})
            if second == HINT_AT:
                await ask("POST", "/v1/hints", [{"subs_id": HINTED, "dial_at": moment(wall + DIAL_AT)}])
        for place in range(1, BINDINGS + 1):
            course.routes[str(place)] = told(await ask("GET", f"/v1/routes/{place}?caller={CALLER}"))
    with closing(sqlite3.connect(folder / "precall.db")) as database:
        order = "SELECT subs_id, result FROM check_results ORDER BY last_seq"
        course.checks.extend((subs_id, result) for subs_id, result in database.execute(order))


def registration(binding: Binding) -> dict[str, Any]:
    names = ("subs_id", "pool_key", "number_x", "number_a", "number_b")
    return {name: getattr(binding, name) for name in names} | {"expires_at": moment(END)}


def moment(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat()


SCENARIO = {
    "binding": [registration(wanted(place)) | {"expires_at": END} for place in range(1, BINDINGS + 1)]
}


@pytest.mark.slow(seconds=25)
def test_the_same_events_lead_to_the_same_checks_and_routes(tmp_path: Path) -> None:
    daemon = Course()
    run_virtual(lambda loop: in_the_daemon(loop, tmp_path, daemon), speed=SPEED)
    core = in_the_core()
    assert core.reads == daemon.reads
    assert core.routes == daemon.routes
    assert abs(len(core.checks) - len(daemon.checks)) <= SPARE
    assert (
        Counter(result for _, result in core.checks).keys()
        == Counter(result for _, result in daemon.checks).keys()
    )
    first, its_first = (list(dict.fromkeys(subs_id for subs_id, _ in each.checks)) for each in (core, daemon))
    elsewhere = [one for one in its_first if abs(first.index(one) - its_first.index(one)) > FEW]
    assert len(elsewhere) <= FEW, "all but a few that the sweep by age got to first"
    mine, its = (Counter(subs_id for subs_id, _ in course.checks) for course in (core, daemon))
    assert max(abs(mine[subs_id] - its[subs_id]) for subs_id in mine | its) <= MOVED, (mine, its)
