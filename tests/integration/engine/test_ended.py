"""Ended bindings: the table keeps a limited number, and a wrong clock does not remove many."""

from dataclasses import replace
from datetime import UTC, datetime
from math import inf
from pathlib import Path
from time import time

import pytest

from precall.clocks import Clocks
from precall.config.settings import Settings
from precall.core.model import Binding, Row, State
from precall.engine import ended_bindings
from precall.engine.ended_bindings import EndedBindings
from tests.support.api_daemon import Served, scripted, serving

HOUR, YEAR = 3600.0, 365 * 86_400.0
KEPT = 3


class Time:
    """Both clocks, moved by hand: `off` moves the wall clock alone, `passed` moves both."""

    def __init__(self) -> None:
        self.off = self.passed = 0.0

    def wall(self) -> float:
        return time() + self.off + self.passed

    def tick(self) -> float:
        return 1000.0 + self.passed


@pytest.fixture(autouse=True)
def _few_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ended_bindings, "FLOOR", KEPT)


async def registered(served: Served, moments: Time, count: int = 10) -> EndedBindings:
    """Bindings "1" ... that end one after the other, all within an hour."""
    for place in range(1, count + 1):
        end = datetime.fromtimestamp(moments.wall() + HOUR / 2 + 60.0 * place, UTC).isoformat()
        await served.register(subs_id=str(place), expires_at=end)
    parts, clocks = served.daemon.parts, Clocks(moments.wall, moments.tick)
    bindings = EndedBindings(parts.store, parts.table, parts.writer, Settings(served.daemon.config), clocks)
    await bindings.advance()
    return bindings


async def swept(served: Served, bindings: EndedBindings) -> set[str]:
    """Sweep twice, since the first sweep only counts ended bindings, and return the ids that are left."""
    for _ in range(2):
        surplus = bindings.surplus()

        def see(row: Row, surplus: ended_bindings.LongestEnded = surplus) -> None:
            if (end := bindings.end_of(row)) < inf:
                surplus.add(row.binding.subs_id, end)

        await served.daemon.parts.checker.plan.sweep(ended=see)
        await bindings.remove(surplus)
    return {row.binding.subs_id for row in served.daemon.parts.table.rows()}


async def test_the_last_ended_bindings_are_kept(tmp_path: Path) -> None:
    moments = Time()
    async with serving(tmp_path, scripted(1), wall=moments.wall) as served:
        bindings = await registered(served, moments)
        assert len(await swept(served, bindings)) == 10
        moments.passed = HOUR
        assert await swept(served, bindings) == {"8", "9", "10"}
        assert await served.stored() == KEPT
        assert len(served.daemon.parts.checker.planner) == 0


async def test_a_clock_that_is_ahead_removes_nothing(tmp_path: Path) -> None:
    moments = Time()
    async with serving(tmp_path, scripted(1), wall=moments.wall) as served:
        bindings = await registered(served, moments)
        moments.off = YEAR
        assert len(await swept(served, bindings)) == 10
        await bindings.advance()
        moments.passed = 60.0
        assert len(await swept(served, bindings)) == 10, "the horizon moves ten minutes in one"
        moments.off = 0.0
        assert len(await swept(served, bindings)) == 10


async def test_the_horizon_survives_a_restart(tmp_path: Path) -> None:
    moments = Time()
    async with serving(tmp_path, scripted(1), wall=moments.wall) as served:
        await registered(served, moments)
        moments.off = YEAR
        again = EndedBindings(
            served.daemon.parts.store,
            served.daemon.parts.table,
            served.daemon.parts.writer,
            Settings(served.daemon.config),
            Clocks(moments.wall, moments.tick),
        )
        await again.advance()
        assert len(await swept(served, again)) == 10


async def test_a_binding_extended_in_the_meantime_is_kept(tmp_path: Path) -> None:
    moments = Time()
    async with serving(tmp_path, scripted(1), wall=moments.wall) as served:
        bindings = await registered(served, moments)
        moments.passed = HOUR
        later = datetime.fromtimestamp(moments.wall() + HOUR, UTC).isoformat()
        await served.register(subs_id="1", expires_at=later)
        await bindings.remove(["1", "2", "unknown"])
        assert served.daemon.parts.table.get("1") is not None
        assert served.daemon.parts.table.get("2") is None


async def test_a_binding_ended_by_the_provider_counts_after_a_delay(tmp_path: Path) -> None:
    moments = Time()
    async with serving(tmp_path, scripted(4), wall=moments.wall) as served:
        bindings = await registered(served, moments, 1)
        await served.checked("1")
        row = served.daemon.parts.table.get("1")
        assert row is not None
        assert row.state.state is State.EXPIRED
        row = replace(row, binding=replace(row.binding, expires_at=None))
        assert bindings.end_of(row) == inf, "the provider is asked again within two hours"
        moments.passed = 3 * HOUR
        assert bindings.end_of(row) < inf
        from_source: Binding = replace(row.binding, origin="source")
        assert bindings.end_of(replace(row, binding=from_source)) == inf, "the next sync would bring it back"
