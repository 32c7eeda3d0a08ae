"""Dials of kept routes reach the planner: by reported calls, by batches of a cache, and never twice."""

import random
from collections.abc import Callable

import pytest

from precall.core.planning.planner import Planner
from precall.core.planning.rates import BANDS

BINDINGS = 300
HOURS = 6.0
END = HOURS * 3600.0


def a_planner() -> Planner:
    """A planner with bindings "0", "1", ... registered at 0."""
    planner = Planner(20.0)
    for n in range(BINDINGS):
        planner.add(str(n), 0.0, pool=f"P{n % 3}", x=f"X{n}", registered_at=0.0, checked_at=0.0, variant="")
    return planner


def traffic() -> list[tuple[float, str]]:
    """(time, id) of every dial: some bindings many times an hour, most of them hardly, fewer with age."""
    chance, found = random.Random(5), list[tuple[float, str]]()
    for n in range(BINDINGS):
        rate, now = (20.0 if n % 30 == 0 else 1.0) / 3600.0, 0.0
        while (now := now + chance.expovariate(rate / (1.0 + now / 7200.0))) < END:
            found.append((now, str(n)))
    return sorted(found)


Event = tuple[float, Callable[[Planner, float], object]]


def read(at: float, subs_id: str) -> Event:
    return at, lambda planner, now: planner.dial(subs_id, now, verified=False)


def call(at: float, subs_id: str, late: float) -> Event:
    return at + late, lambda planner, now: planner.dial_of_call(subs_id, at, now)


def batches(dials: list[tuple[float, str]], every: float) -> list[Event]:
    """The counts that a cache sends every so many seconds."""
    counts: dict[tuple[float, str], tuple[int, float]] = {}
    for at, subs_id in dials:
        key = (at // every + 1) * every, subs_id
        counts[key] = counts.get(key, (0, 0.0))[0] + 1, at

    def batch(subs_id: str, count: int, last_at: float) -> Callable[[Planner, float], object]:
        return lambda planner, now: planner.dials_of_cache(subs_id, count, last_at, now)

    return [(sent, batch(subs_id, *told)) for (sent, subs_id), told in counts.items()]


def learned(events: list[Event]) -> Planner:
    planner = a_planner()
    for at, act in sorted(events, key=lambda event: event[0]):
        act(planner, at)
    for n in range(BINDINGS):  # a check ends the observation of each at the same time
        planner.take_on_demand(str(n), END + 600.0)
        planner.settle(str(n), "", END + 600.0)
    return planner


def dials_in(planner: Planner) -> float:
    return sum(events for events, _ in planner.export()["everywhere"]["mu"])


def intensities(planner: Planner) -> list[float]:
    """Dials per second by age band, over the classes of reads together."""
    cells = planner.export()["everywhere"]["mu"]
    size = len(cells) // (len(BANDS) + 1)
    return [
        sum(events for events, _ in band) / sum(seconds for _, seconds in band)
        for band in (cells[size * n : size * (n + 1)] for n in range(5))
    ]


def reported(late: bool) -> list[tuple[float, str, float]]:
    chance = random.Random(6)
    return [(at, subs_id, chance.uniform(1.0, 300.0 if late else 5.0)) for at, subs_id in traffic()]


@pytest.mark.parametrize("late", [False, True], ids=["at once", "within five minutes"])
@pytest.mark.parametrize("kept", ["by dispatchers", "by caches that tell", "by half of the dispatchers"])
def test_the_intensity_of_dials_is_the_same_when_routes_are_kept(kept: str, late: bool) -> None:
    dials = traffic()
    counted = learned([read(at, subs_id) for at, subs_id in dials])
    calls = [call(at, subs_id, after) for at, subs_id, after in reported(late)]
    match kept:
        case "by dispatchers":
            other = learned(calls)
        case "by caches that tell":
            other = learned([*calls, *batches(dials, 10.0)])
        case _:
            other = learned([*calls, *(read(at, subs_id) for at, subs_id in dials if int(subs_id) % 2)])
    assert dials_in(counted) == len(dials)
    assert dials_in(other) == pytest.approx(len(dials), rel=0.06)
    assert intensities(other) == pytest.approx(intensities(counted), rel=0.1)


def test_a_call_whose_read_was_counted_is_no_further_dial() -> None:
    planner = a_planner()
    planner.dial("1", 100.0, verified=False)
    assert planner.dial_of_call("1", 101.0, 300.0) == 0
    assert planner.dial_of_call("1", 160.0, 300.0) == 0, "a minute before it"
    assert planner.dial_of_call("1", 160.5, 300.0) == 1
    assert planner.dial_of_call("1", 161.0, 300.0) == 1, "two calls of kept routes"
    assert planner.dial_of_call("unknown", 100.0, 300.0) == 0
    assert dials_in(planner) == 3


def test_a_batch_that_comes_after_the_report_of_its_call_counts_once() -> None:
    planner = a_planner()
    assert planner.dial_of_call("1", 101.0, 102.0) == 1
    assert planner.dials_of_cache("1", 3, 100.0, 110.0) == 2
    assert planner.dials_of_cache("1", 1, 111.0, 120.0) == 1, "another dial"
    assert planner.dial_of_call("1", 112.0, 130.0) == 0, "its read was told"
    assert planner.dial_of_call("2", 101.0, 102.0) == 1
    assert planner.dials_of_cache("2", 1, 101.5, 110.0) == 1, "a read after that call was for another"
    assert planner.dials_of_cache("unknown", 5, 100.0, 110.0) == 0


def test_many_dials_of_one_binding_are_all_counted() -> None:
    planner = a_planner()
    assert planner.dials_of_cache("1", 100, 50.0, 60.0) == 100
    assert dials_in(planner) == 100
    often, never = planner.explain("1", 90.0), planner.explain("4", 90.0)
    assert often is not None
    assert never is not None
    assert often.worth > never.worth


@pytest.mark.parametrize("earlier", [1e-6, 0.01])
def test_a_call_told_in_the_same_second_as_its_read_counts_once(earlier: float) -> None:
    """Both are told in whole seconds. Converted to ticks one after the other, the call may seem to come first."""
    planner = a_planner()
    assert planner.dial_of_call("1", 101.0 - earlier, 102.0) == 1
    assert planner.dials_of_cache("1", 2, 101.0, 110.0) == 1
    assert planner.dials_of_cache("1", 1, 101.0, 120.0) == 1, "another dial"
