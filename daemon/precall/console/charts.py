"""The history of the last hours as charts, tables and strips, from what the recorder keeps.

A page has a plain picture and a table of each chart. A script draws the charts over the pictures where scripts run.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from precall.api.schemas.fields import moment
from precall.console.visit import Visit
from precall.core.model import State
from precall.core.rings import columns
from precall.engine.recorder import MERGED, POOL_STATES, PoolCounts, Recorder

SPANS: Mapping[int, int] = {1: 15, 6: 60}
"""The hours that can be shown, and the seconds between two points then."""

ROWS = 12
"""Rows of a table beside a chart."""

WIDTH, HEIGHT = 400, 80
"""The box of a picture, in its own units."""

ChartCurve = Sequence[float | None]


@dataclass(frozen=True, slots=True)
class ChartLayout:
    """A chart: the figures of the recorder that it shows, by the names of `engine.recorder`."""

    name: str
    figures: tuple[str, ...]
    whole: bool = True
    """Whether its figures are counts."""


CHARTS = (
    ChartLayout("checks", ("checks", "checks_failed", "budget"), whole=False),
    ChartLayout("states", ("state_temporary", "state_fallback", "state_blocked", "state_unverified", "held")),
    ChartLayout("calls", ("calls", "calls_failed")),
    ChartLayout("oldest", ("oldest",)),
)

FIGURES = tuple(dict.fromkeys(figure for chart in CHARTS for figure in chart.figures))


@dataclass(frozen=True, slots=True)
class ShownChart:
    """A chart for a page. `latest` has the newest figure of each curve, `pictures` the points of its lines.

    `rows` are (time in RFC 3339, figures), the newest first. `top` is the value at the upper edge.
    """

    name: str
    figures: tuple[str, ...]
    latest: Mapping[str, str]
    pictures: Mapping[str, Sequence[str]]
    rows: Sequence[tuple[str, Sequence[str]]]
    top: str


@dataclass(frozen=True, slots=True)
class ShownHistory:
    """All charts of a page. `hours` is the span, `spans` are those there are. `empty`: nothing is recorded yet."""

    hours: int
    spans: Sequence[int]
    charts: Sequence[ShownChart]
    empty: bool


def span_of(visit: Visit) -> int:
    """Return the hours that the visitor asks for by `hours=`, one hour unless that is a span there is."""
    given = visit.request.query.get("hours", "")
    return int(given) if given in map(str, SPANS) else min(SPANS)


def moments(recorder: Recorder, now: float, seconds: int, step: int) -> list[float]:
    """Return the moments of the points over the last `seconds`, `step` apart, up to the newest sample."""
    newest = max(recorder.daemon.recent(now), default=recorder.daemon.moment(now))
    return [newest - back for back in range(seconds - step, -1, -step)]


def curves(
    visit: Visit, hours: int, step: int, names: Sequence[str]
) -> tuple[list[float], dict[str, ChartCurve]]:
    """Return the moments of the points (Unix seconds), and a figure of each name at each; None for a gap."""
    recorder, now = visit.services.recorder, visit.services.clock()
    points = moments(recorder, now, hours * 3600, step)
    found = columns(recorder.daemon.recent(now), names, points, MERGED)
    return points, {name: [_rounded(figure) for figure in curve] for name, curve in found.items()}


def shown(visit: Visit) -> ShownHistory:
    """Return the charts of the page Now."""
    hours = span_of(visit)
    _, fine = curves(visit, hours, SPANS[hours], FIGURES)
    times, coarse = curves(visit, hours, hours * 3600 // ROWS, FIGURES)
    return ShownHistory(
        hours,
        tuple(SPANS),
        [_chart(layout, fine, times, coarse) for layout in CHARTS],
        empty=all(figure is None for curve in fine.values() for figure in curve),
    )


def _chart(
    layout: ChartLayout,
    fine: Mapping[str, ChartCurve],
    times: Sequence[float],
    coarse: Mapping[str, ChartCurve],
) -> ShownChart:
    top = max((figure for name in layout.figures for figure in fine[name] if figure is not None), default=0.0)
    rows = [
        (moment(at), [_text(coarse[name][place], layout) for name in layout.figures])
        for place, at in enumerate(times)
        if any(coarse[name][place] is not None for name in layout.figures)
    ]
    return ShownChart(
        layout.name,
        layout.figures,
        {
            name: _text(next((one for one in reversed(fine[name]) if one is not None), None), layout)
            for name in layout.figures
        },
        {name: lines(fine[name], top or 1.0) for name in layout.figures},
        rows[::-1],
        _text(top, layout),
    )


def lines(curve: ChartCurve, top: float) -> list[str]:
    """Return the points of the lines of a curve in a picture, one line between two gaps. `top` is the upper edge."""
    found: list[list[str]] = [[]]
    across = WIDTH / max(1, len(curve) - 1)
    for place, figure in enumerate(curve):
        if figure is None:
            found.append([])
        else:
            found[-1].append(f"{place * across:.1f},{HEIGHT - 2 - figure / top * (HEIGHT - 4):.1f}")
    return [" ".join(points if len(points) > 1 else points * 2) for points in found if points]


def strip(visit: Visit, pool_key: str) -> list[tuple[State, str]]:
    """Return the last hour of a pool: a path for each state, with a column a minute and a height of 10 for the whole.

    The list is empty for a pool whose history is not kept.
    """
    ring, now = visit.services.recorder.pools, visit.services.clock()
    return paths(ring.recent(now), pool_key, ring.moment(now) - ring.span, ring.step)


def paths(
    found: Mapping[float, PoolCounts], pool_key: str, begun: float, step: int
) -> list[tuple[State, str]]:
    """Return the paths of a strip. Equal minutes side by side become one rectangle."""
    boxes: dict[State, list[tuple[int, int, float, float]]] = {}
    for at, pools in found.items():
        counts = pools.get(pool_key)
        place, whole = int((at - begun) // step) - 1, sum(counts or ())
        if not counts or not whole:
            continue
        edge = 10.0
        for state, count in zip(POOL_STATES, counts, strict=True):
            if not count:
                continue
            # What is rare must be seen: half a unit at least.
            height = min(edge, max(0.5, round(10.0 * count / whole, 2)))
            edge = round(edge - height, 2)
            boxes.setdefault(state, []).append((place, 1, edge, height))
    return [
        (state, "".join(map(_rectangle, _joined(boxes[state])))) for state in POOL_STATES if state in boxes
    ]


def _joined(boxes: Sequence[tuple[int, int, float, float]]) -> list[tuple[int, int, float, float]]:
    joined: list[tuple[int, int, float, float]] = []
    for left, width, top, height in boxes:
        if joined:
            before = joined[-1]
            if before[0] + before[1] == left and before[2:] == (top, height):
                joined[-1] = before[0], before[1] + width, top, height
                continue
        joined.append((left, width, top, height))
    return joined


def _rectangle(box: tuple[int, int, float, float]) -> str:
    left, width, top, height = box
    return f"M{left} {top:g}h{width}v{height:g}h-{width}z"


def _rounded(figure: float | None) -> float | None:
    return None if figure is None else round(figure, 2)


def _text(figure: float | None, layout: ChartLayout) -> str:
    if figure is None:
        return "–"
    return f"{figure:,.0f}" if layout.whole else f"{figure:,.3g}"
