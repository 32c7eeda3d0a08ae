"""The cost of the planner's decisions: `python -m tests.bench.bench_planner [--bindings 1000000]`.

Each policy runs in its own process. Measured are adding a binding, take + settle (median, p99.9, worst), and bytes per
binding (growth of the resident set). Times are CPU time, so other work on the machine does not count. As in the
daemon, bindings are loaded and frozen first. The planner is compared with a plain poller: one heap of due times.
"""

import argparse
import gc
import multiprocessing
import os
import random
from collections.abc import Callable
from heapq import heappop, heappush
from pathlib import Path
from time import thread_time

from precall.core.planning.planner import Planner

RATE = 300.0
POOLS = 200
PER_X = 20


class DueTimes:
    """The poller to compare with: it uses a fixed interval and takes the earliest due binding first."""

    def __init__(self, rate: float) -> None:
        self.heap: list[tuple[float, str]] = []
        self.variant: dict[str, int] = {}

    def add(self, subs_id: str, now: float) -> None:
        self.variant[subs_id] = 0
        heappush(self.heap, (now, subs_id))

    def take(self, now: float) -> str:
        return heappop(self.heap)[1]

    def settle(self, subs_id: str, variant: int, now: float) -> None:
        self.variant[subs_id] = variant
        heappush(self.heap, (now + 3600.0, subs_id))

    def dial(self, subs_id: str, now: float, *, verified: bool) -> None:
        """Do nothing: the interval is fixed."""


class Planned(Planner):
    """The planner with typical bindings: registered within two days, checked within the last hour."""

    def join(self, subs_id: str, now: float) -> None:
        n = int(subs_id)
        pool, age = n % POOLS, (n * 7919 % 172_800) + 3600.0
        self.add(
            subs_id,
            now,
            pool=f"FC{pool}",
            x=str(17_000_000_000 + n // (POOLS * PER_X) * POOLS + pool),
            registered_at=now - age,
            checked_at=now - n * 104_729 % 3600,
            variant=0,
        )


def _resident() -> int:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGESIZE")


def _measure(
    make: Callable[[], tuple[object, ...]], bindings: int, checks: int, answers: "multiprocessing.Queue"
) -> None:
    ids = [str(10**15 + n) for n in range(bindings)]
    planner, add = make()
    gc.collect()
    before = _resident()
    start = thread_time()
    for subs_id in ids:
        add(subs_id, 0.0)
    added = thread_time() - start
    size = _resident() - before
    gc.collect()
    gc.freeze()
    spent, now = [], 1.0
    # Two dials a day and binding. Without any, all would be worth less from second to second.
    calling, between = random.Random(1), max(1, round(RATE * 43_200 / bindings))
    for n in range(checks):
        now += 1 / RATE
        trouble = n // 20_000 % 2 and n % 3 == 0
        start = thread_time()
        subs_id = planner.take(now)
        taken = thread_time()
        variant = int(bool(trouble and int(subs_id) % POOLS < 5))
        settling = thread_time()
        planner.settle(subs_id, variant, now)
        if not n % RATE:
            gc.collect(0)  # as the daemon does every second
        spent.append(thread_time() - settling + taken - start)
        if not n % between:
            planner.dial(calling.choice(ids), now, verified=False)
    spent.sort()
    answers.put(
        (
            1e6 * added / bindings,
            1e6 * spent[len(spent) // 2],
            1e3 * spent[-len(spent) // 1000],
            1e3 * spent[-1],
            size / bindings,
        )
    )


def _planner() -> tuple[object, ...]:
    planner = Planned(RATE)
    return planner, planner.join


def _poller() -> tuple[object, ...]:
    poller = DueTimes(RATE)
    return poller, poller.add


def main() -> None:
    """Print the table."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--bindings", type=int, default=1_000_000)
    options.add_argument("--checks", type=int, default=100_000)
    given = options.parse_args()
    processes = multiprocessing.get_context("spawn")
    print(f"{given.bindings} bindings, {given.checks} checks at {RATE:g}/s")
    print(f"{'':10s}{'add us':>9s}{'median us':>11s}{'p99.9 ms':>10s}{'worst ms':>10s}{'bytes each':>12s}")
    for name, make in (("planner", _planner), ("due times", _poller)):
        answers = processes.Queue()
        process = processes.Process(target=_measure, args=(make, given.bindings, given.checks, answers))
        process.start()
        add, median, rare, worst, size = answers.get()
        process.join()
        print(f"{name:10s}{add:9.1f}{median:11.1f}{rare:10.2f}{worst:10.1f}{size:12.0f}")


if __name__ == "__main__":
    main()
