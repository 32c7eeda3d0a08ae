"""Curves as points with gaps, and the strip of a pool as few paths."""

import re

import pytest

from precall.console.charts import CHARTS, FIGURES, HEIGHT, WIDTH, lines, paths
from precall.console.words import TEXTS
from precall.core.model import State
from precall.core.status.texts import Language
from precall.engine.recorder import LEVELS, PER_SECOND, PER_STEP


def test_a_gap_interrupts_the_line() -> None:
    assert lines([0.0, 10.0, None, 10.0, 0.0], 10.0) == ["0.0,78.0 100.0,2.0", "300.0,2.0 400.0,78.0"]
    assert lines([None, None], 1.0) == []


def test_a_single_point_is_drawn() -> None:
    [only] = lines([None, 5.0, None], 10.0)
    assert only == "200.0,40.0 200.0,40.0"


def test_lines_stay_in_the_picture() -> None:
    [line] = lines([float(n) for n in range(240)], 239.0)
    for point in line.split():
        across, down = map(float, point.split(","))
        assert 0 <= across <= WIDTH
        assert 0 <= down <= HEIGHT


def test_equal_minutes_are_one_rectangle() -> None:
    found = {60.0 * minute: {"FC1": [10, 0, 0, 0, 0]} for minute in range(1, 61)}
    assert paths(found, "FC1", 0.0, 60) == [(State.NORMAL, "M0 0h60v10h-60z")]
    assert paths(found, "FC2", 0.0, 60) == []


def test_states_are_stacked_and_gaps_left_out() -> None:
    found = {60.0: {"FC1": [10, 0, 0, 0, 0]}, 180.0: {"FC1": [5, 4, 1, 0, 0]}}
    assert paths(found, "FC1", 0.0, 60) == [
        (State.NORMAL, "M0 0h1v10h-1zM2 5h1v5h-1z"),
        (State.TEMPORARY, "M2 1h1v4h-1z"),
        (State.FALLBACK, "M2 0h1v1h-1z"),
    ]


@pytest.mark.parametrize("rare", [1, 3])
def test_what_is_rare_is_seen_and_nothing_leaves_the_strip(rare: int) -> None:
    for _, path in paths({60.0: {"P": [100_000, rare, rare, rare, rare]}}, "P", 0.0, 60):
        for top, height in re.findall(r"M0 ([\d.]+)h1v([\d.]+)", path):
            assert float(top) >= 0
            assert float(height) >= 0.0
            assert float(top) + float(height) <= 10.0


def test_each_figure_is_recorded_and_has_a_text() -> None:
    recorded = {*LEVELS, *PER_SECOND, *PER_STEP, *(f"state_{state}" for state in State)}
    assert set(FIGURES) <= recorded
    for figure in FIGURES:
        assert f"figure.{figure}" in TEXTS[Language.EN]
    for chart in CHARTS:
        assert f"charts.{chart.name}" in TEXTS[Language.EN]
