"""The mission in one number: `python -m tests.bench.bench_mission [--bindings 10000 --rate 1 --hours 5 --seeds 3]`.

Measured: of 10,000 calls that people want to make, how many fail (they reach nobody, or are held back while their
binding is in effect), and how many reach a stranger, when a dispatcher

- dials X alone, knowing when each binding ends;
- dials what precall's routes say, read from its table;
- also wants a live check of routes older than `max_age`;
- also announces part of its calls (hints);
- also reports how calls ended, and receives the provider's pushes;
- also tries once more after a failed call, with a check in any case.

Each level adds to the one before. All meet the same world and place the same calls (`mission/world.py`). What the world
leaves open, a slow reply for example, is drawn per call, so it is the same at every level.

The decisions are the product's own: planner, quota, state machine, registration, routes, exposure and its brake,
suspicion, provider health. `mission/account.py` drives them as the engine does; a test compares it with the daemon.
Not measured: the time that HTTP, the database and a failover take, calls that fail for reasons of the callee, and what
other systems a dispatcher has. The world is assumed, not measured: `mission/assumptions.py` has every constant, and
`--set NAME=VALUE` changes it. The defaults stand for a million bindings at 100 checks/s: only the time of a round
(bindings/rate) matters, so a hundredth of both is simulated.
"""

import argparse
import json
import os
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from random import Random
from typing import Any

from precall.telemetry.logging import configure
from tests.bench.mission.assumptions import Assumptions
from tests.bench.mission.dispatch import LEVELS, TWICE, MissionLevel, MissionRun, MissionTally
from tests.bench.mission.world import MissionWorld

RESAMPLES = 2000
TEN_THOUSAND = 10_000


@dataclass(frozen=True, slots=True)
class LevelResult:
    """One row of the table: per 10,000 calls, with 95 % intervals. `held` are the failed calls that were not placed."""

    name: str
    failed: float
    failed_between: tuple[float, float]
    held: float
    strangers: float
    fewer: float
    fewer_between: tuple[float, float]
    causes: dict[str, float]
    tallies: list[dict[str, Any]]


def run_seed(job: tuple[Assumptions, int, tuple[MissionLevel, ...]]) -> list[MissionTally]:
    """All levels in the world of one seed."""
    given, seed, levels = job
    configure(level="critical")
    world = MissionWorld(given, seed)
    return [MissionRun(world, level).run() for level in levels]


def summarise(levels: tuple[MissionLevel, ...], by_seed: list[list[MissionTally]]) -> list[LevelResult]:
    """The rows of the table. The first level is the one that the others are compared with.

    Intervals are from a bootstrap over the pools of all seeds: the calls of one pool share its outages.
    """
    clusters = [
        (
            each[0].calls_of_pool[pool],
            [tally.failed_of_pool[pool] for tally in each],
        )
        for each in by_seed
        for pool in sorted(each[0].calls_of_pool)
    ]
    draw = Random(1)
    samples = []
    for _ in range(RESAMPLES):
        picked = draw.choices(clusters, k=len(clusters))
        calls = sum(calls for calls, _ in picked)
        samples.append(
            [(TEN_THOUSAND * sum(failed) / calls) for failed in zip(*(f for _, f in picked), strict=True)]
        )
    rows = []
    calls = sum(each[0].calls for each in by_seed)
    scale = TEN_THOUSAND / calls
    alone = sum(each[0].failed.total() for each in by_seed) * scale
    for place, level in enumerate(levels):
        tallies = [each[place] for each in by_seed]
        causes: Counter[str] = sum((tally.failed for tally in tallies), Counter())
        failed = causes.total() * scale
        # Where nothing failed, half a call did: the ratio stays finite and on the safe side.
        floor = 0.5 * scale
        rows.append(
            LevelResult(
                level.name,
                failed,
                _interval([sample[place] for sample in samples]),
                sum(count for cause, count in causes.items() if cause.startswith("held back")) * scale,
                sum(tally.strangers.total() for tally in tallies) * scale,
                alone / max(failed, floor),
                _interval([sample[0] / max(sample[place], floor) for sample in samples]),
                {cause: count * scale for cause, count in causes.most_common()},
                [tally.plain() for tally in tallies],
            )
        )
    return rows


def _interval(values: list[float]) -> tuple[float, float]:
    ordered = sorted(values)
    return ordered[round(0.025 * (len(ordered) - 1))], ordered[round(0.975 * (len(ordered) - 1))]


def show(rows: list[LevelResult], given: Assumptions, seeds: list[int]) -> None:
    """Print the table, what is left of the failed calls, and the assumptions."""
    calls = sum(tally["calls"] for tally in rows[0].tallies)
    print(
        f"{given.bindings} bindings, {given.rate:g} checks/s, {given.hours:g} h, seeds {seeds}: {calls} calls\n"
    )
    heads = (
        ("failed", 8),
        ("95 %", 17),
        ("of it held", 12),
        ("strangers", 11),
        ("times fewer", 13),
        ("95 %", 15),
    )
    print(f"{'per 10,000 calls':30s}", *(f"{head:>{width}s}" for head, width in heads), sep="")
    for row in rows:
        low, high = row.failed_between
        least, most = row.fewer_between
        print(
            f"{row.name:30s}{row.failed:8.1f} {f'{low:.1f} - {high:.1f}':>16s}{row.held:12.1f}{row.strangers:11.2f}"
            f"{row.fewer:13.1f} {f'{least:.1f} - {most:.1f}':>14s}"
        )
    print("\nWhat failed, per 10,000 calls:")
    for row in rows:
        told = ", ".join(f"{cause} {share:.1f}" for cause, share in row.causes.items())
        print(f"  {row.name}: {told or 'nothing'}")
    print("\nAssumed (s):", *given.lines(), sep="\n  ")


def main() -> None:
    """Run and print."""
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("--bindings", type=int, default=Assumptions().bindings)
    options.add_argument("--rate", type=float, default=Assumptions().rate)
    options.add_argument("--hours", type=float, default=Assumptions().hours)
    options.add_argument("--seeds", type=int, default=3)
    options.add_argument("--first-seed", type=int, default=1)
    options.add_argument("--set", action="append", default=[], metavar="NAME=VALUE")
    options.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    options.add_argument("--json", type=Path)
    asked = options.parse_args()
    given = replace(Assumptions(), bindings=asked.bindings, rate=asked.rate, hours=asked.hours)
    for assignment in asked.set:
        name, _, value = assignment.partition("=")
        if not hasattr(given, name):
            options.error(f"--set {name}: no such assumption; the table names them all")
        given = replace(given, **{name: type(getattr(given, name))(value)})
    seeds = list(range(asked.first_seed, asked.first_seed + asked.seeds))
    levels = (*LEVELS, TWICE)
    with ProcessPoolExecutor(asked.jobs, mp_context=get_context("spawn")) as workers:
        by_seed = list(workers.map(run_seed, [(given, seed, levels) for seed in seeds]))
    rows = summarise(levels, by_seed)
    show(rows, given, seeds)
    if asked.json is not None:
        content = {"assumptions": asdict(given), "seeds": seeds, "levels": [asdict(row) for row in rows]}
        asked.json.write_text(json.dumps(content, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
