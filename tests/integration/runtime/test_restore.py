"""Starting from stored rows: the same table with its true ages, and change indexes that were never used before."""

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from precall.config.schema import Config
from precall.core.model import Binding
from precall.runtime.daemon import Daemon
from precall.runtime.restore import MILLENNIUM

NOW = 1_790_000_000.0


async def life(folder: Path, wall: Callable[[], float], *labels: str) -> list[int]:
    """Start at that time, and register a binding with each of `labels`.

    Return all published indexes, the first from before any change.
    """
    config = Config(
        provider={  # type: ignore[arg-type]
            "endpoint": "http://127.0.0.1:9",
            "access_key_id": "demo",
            "access_key_secret": "demo-secret",
        },
        store={"url": f"sqlite:///{folder}/precall.db"},  # type: ignore[arg-type]
        api={"listen": "127.0.0.1:0"},  # type: ignore[arg-type]
    )
    daemon = Daemon(config, wall=wall, monotonic=lambda: 0.0)
    told = []
    async with daemon.running():
        daemon.parts.checker.plan.pause("")
        told.append(daemon.parts.feed.newest)
        for number_a in labels:
            wanted = Binding("1", "FC1", "17000000001", number_a, "13900000001")
            await daemon.parts.registry.register([wanted], atomic=True)
            row = daemon.parts.table.get("1")
            assert row is not None
            told.append(row.index)
    return told


A, B, C = "13800000001", "13800000002", "13800000003"


@pytest.mark.parametrize("later", [3600.0, 0.001, 0.0, -3600.0])
async def test_change_indexes_are_unique_whatever_the_clock_shows(tmp_path: Path, later: float) -> None:
    told = await life(tmp_path, lambda: NOW, A, B, C)
    assert told[0] == int((NOW - MILLENNIUM) * 1000)
    told += await life(tmp_path, lambda: NOW + later)
    told += await life(tmp_path, lambda: NOW + later, A, B)
    assert told == sorted(set(told))


async def test_change_indexes_are_unique_after_restoring_a_backup(tmp_path: Path) -> None:
    file, copy = tmp_path / "precall.db", tmp_path / "copy.db"
    told = await life(tmp_path, lambda: NOW, A)
    with closing(sqlite3.connect(file)) as source, closing(sqlite3.connect(copy)) as target:
        source.backup(target)
    told += await life(tmp_path, lambda: NOW + 60, B, C, A)
    for name in ("precall.db", "precall.db-wal", "precall.db-shm"):
        (tmp_path / name).unlink(missing_ok=True)
    copy.rename(file)
    told += await life(tmp_path, lambda: NOW + 120, B)
    assert told == sorted(set(told))
