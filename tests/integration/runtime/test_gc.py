"""Garbage collections: a full one never has many bindings to walk over, however they came in."""

import gc
from collections.abc import Iterator
from pathlib import Path

import pytest

from precall.config.schema import Config
from precall.core.model import Binding
from precall.core.planning.entries import PlanEntry
from precall.core.planning.planner import Planner
from precall.runtime.daemon import Daemon
from precall.runtime.gc import MANY, collect_young, without_collections

REGISTERED = 15_000
"""Bindings of which the daemon keeps more than `MANY` objects."""


@pytest.fixture(autouse=True)
def as_after_a_start() -> Iterator[None]:
    """What there is already is set apart; in the end all is as before."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


def walked() -> int:
    """Bindings a full collection would look at."""
    return sum(isinstance(one, PlanEntry) for one in gc.get_objects())


def planned(count: int) -> Planner:
    planner = Planner(20.0)
    for n in range(count):
        planner.add(str(n), 0.0, pool="FC1", x=n, registered_at=0.0, checked_at=None, variant="")
    return planner


@pytest.mark.slow(seconds=15)
async def test_bindings_registered_after_the_start_are_frozen(tmp_path: Path) -> None:
    config = Config(
        provider={  # type: ignore[arg-type]
            "endpoint": "http://127.0.0.1:9",
            "access_key_id": "demo",
            "access_key_secret": "demo-secret",
        },
        store={"url": f"sqlite:///{tmp_path}/precall.db"},  # type: ignore[arg-type]
        api={"listen": "127.0.0.1:0"},  # type: ignore[arg-type]
    )
    daemon = Daemon(config)
    async with daemon.running():
        for start in range(0, REGISTERED, 5000):
            wanted = [
                Binding(str(n), "FC1", str(17_000_000_000 + n), "13800000001", "13900000001")
                for n in range(start, start + 5000)
            ]
            await daemon.parts.registry.register(wanted, atomic=True)
        await collect_young()
        assert len(daemon.parts.checker.planner) == REGISTERED
        assert len(gc.get_objects()) <= MANY
        assert walked() < REGISTERED / 2


async def test_few_objects_are_not_frozen() -> None:
    planner, apart = planned(100), gc.get_freeze_count()
    await collect_young()
    assert gc.get_freeze_count() <= apart
    assert walked() == len(planner)


async def test_frozen_objects_are_still_freed() -> None:
    planner = planned(MANY)
    assert walked() == MANY
    await collect_young()
    assert walked() == 0
    apart = gc.get_freeze_count()
    for n in range(MANY):
        planner.remove(str(n))
    while planner.take(1.0) is not None or gc.get_freeze_count() > apart - MANY:
        pass  # removed bindings are dropped when their entries surface, some at a time
    assert walked() == 0


async def test_garbage_collection_is_off_while_loading() -> None:
    with without_collections():
        planner = planned(MANY)
        await collect_young()
        assert walked() == len(planner)
    assert walked() == 0
