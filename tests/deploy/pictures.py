"""Draw the dashboards after an incident: `make screenshots`.

Panels, queries, units and colours are those of the committed dashboards. The data come from the Prometheus that watched
`incident`. Only the drawing is matplotlib's, because no Grafana is available here.
"""

import math
import tempfile
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.dates import DateFormatter, SecondLocator
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import FuncFormatter, MaxNLocator
from PIL import Image

from tests.deploy.incident import Played, played
from tests.deploy.prometheus import Points
from tests.deploy.test_dashboards import FILES, GRAFANA, read
from tests.deploy.test_incident import RESTART, filled_in

INCH = 0.62
ROW = 0.42
PAPER, CARD, INK, FAINT = "#111217", "#181b1f", "#d8d9da", "#8e8e8e"
COLOURS = {
    "green": "#56a64b",
    "yellow": "#f2cc0c",
    "orange": "#ff9830",
    "red": "#e02f44",
    "blue": "#5794f2",
    "purple": "#b877d9",
    "text": "#8e8e8e",
}
CYCLE = ("#7eb26d", "#eab839", "#6ed0e0", "#ef843c", "#e24d42", "#1f78c1", "#ba43a9", "#b7dbab")
STYLE = {
    "font.family": "DejaVu Sans",
    "font.size": 8,
    "text.color": INK,
    "axes.facecolor": CARD,
    "axes.edgecolor": CARD,
    "xtick.color": FAINT,
    "ytick.color": FAINT,
    "grid.color": "#2c3235",
    "axes.prop_cycle": mpl.cycler(color=CYCLE),
}
LEGEND: dict[str, Any] = {
    "frameon": False,
    "fontsize": 7,
    "handlelength": 1.1,
    "columnspacing": 1,
    "labelspacing": 0.1,
}
Line = tuple[str, Points]


def moment(at: float) -> datetime:
    """Seconds since 1970 as matplotlib wants them."""
    return datetime.fromtimestamp(at, UTC)


def shown(value: float, unit: str) -> str:
    """A value as Grafana writes it in this unit, nearly."""
    match unit:
        case "percentunit":
            return f"{100 * value:.3g}%"
        case "s" if value and abs(value) < 1:
            return f"{1000 * value:.3g} ms"
        case "s":
            return f"{value:.3g} s" if value < 120 else f"{value / 60:.3g} min"
        case "decbytes":
            return f"{value / 1e6:.4g} MB"
        case "reqps" | "cps":
            return f"{value:.3g}{' req/s' if unit == 'reqps' else ' /s'}"
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def lines(incident: Played, panel: dict[str, Any]) -> list[Line]:
    """Legend and points of every series of a panel."""
    found = []
    for target in panel["targets"]:
        for labels, points in incident.prometheus.over(
            filled_in(target["expr"]), incident.started, incident.ended
        ):
            legend = target["legendFormat"]
            for name, value in labels.items():
                legend = legend.replace(f"{{{{{name}}}}}", value)
            kept = [(at, value) for at, value in points if math.isfinite(value)]
            if kept:
                found.append((legend, kept))
    return sorted(found)


def whole(points: Points, begun: float, ended: float) -> tuple[list[datetime], list[float]]:
    """One point a second, NaN where there is none: a gap must look like one."""
    known = {round(at): value for at, value in points}
    seconds = range(round(begun), round(ended) + 1)
    return [moment(at) for at in seconds], [known.get(at, math.nan) for at in seconds]


def draw(incident: Played, file: Path, to: Path) -> None:
    """One dashboard."""
    board = read(file)
    height = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in board["panels"])
    figure = Figure(figsize=(24 * INCH, height * ROW + 0.5), facecolor=PAPER)
    figure.text(0.012, 1 - 0.32 / figure.get_figheight(), board["title"], fontsize=12, weight="bold")
    story = "   ".join(f"{moment(at):%H:%M:%S} {step}" for step, at in incident.steps)
    legend = f"{story}      dotted: restart (red), reload (blue)"
    figure.text(0.988, 1 - 0.32 / figure.get_figheight(), legend, fontsize=8, color=FAINT, ha="right")
    marks = [
        (moment(at), COLOURS[annotation["iconColor"]])
        for annotation in reversed(
            board["annotations"]["list"]
        )  # a restart also loads, so it is drawn on top
        for at in moments(incident, annotation["expr"])
    ]
    for panel in board["panels"]:
        axes = _axes(figure, panel, height)
        result = lines(incident, panel)
        {"stat": _stat, "timeseries": _series, "state-timeline": _states}[panel["type"]](
            axes, panel, result, incident
        )
        if panel["type"] != "stat":
            _timeline(axes, incident, marks)
    with BytesIO() as drawn:
        figure.savefig(drawn, dpi=80, facecolor=PAPER)
        Image.open(drawn).convert("RGB").quantize(128).save(to, optimize=True)


def moments(incident: Played, query: str) -> Iterator[float]:
    """When an annotation's count of changes rises."""
    found = incident.prometheus.over(filled_in(query, RESTART), incident.started, incident.ended)
    for _, points in found:
        before = 0.0
        for at, changes in points:
            if changes > before:
                yield at
            before = changes


def _axes(figure: Figure, panel: dict[str, Any], height: int) -> Axes:
    """The card of a panel, with its title, and the axes in it."""
    wide, high = figure.get_figwidth(), figure.get_figheight()
    place = panel["gridPos"]
    left, width = place["x"] * INCH + 0.06, place["w"] * INCH - 0.12
    bottom, tall = (height - place["y"] - place["h"]) * ROW + 0.06, place["h"] * ROW - 0.12
    card = Rectangle(
        (left / wide, bottom / high),
        width / wide,
        tall / high,
        color=CARD,
        zorder=-1,
        transform=figure.transFigure,
    )
    figure.add_artist(card)
    figure.text((left + 0.1) / wide, (bottom + tall - 0.22) / high, panel["title"], fontsize=8.5)
    before, below = {"stat": (0.0, 0.0), "timeseries": (0.75, 0.62), "state-timeline": (1.6, 0.35)}[
        panel["type"]
    ]
    after = 0.0 if panel["type"] == "stat" else 0.15
    box = (left + before, bottom + below, width - before - after, tall - below - 0.32)
    return figure.add_axes((box[0] / wide, box[1] / high, box[2] / wide, box[3] / high))


def _stat(axes: Axes, panel: dict[str, Any], _found: Sequence[Line], incident: Played) -> None:
    defaults = panel["fieldConfig"]["defaults"]
    axes.set_xticks([])
    axes.set_yticks([])
    target = panel["targets"][0]
    labels, newest = incident.prometheus.instant(filled_in(target["expr"]))[0]
    steps = defaults.get("thresholds", {"steps": [{"value": None, "color": "blue"}]})["steps"]
    colour = [step["color"] for step in steps if step["value"] is None or newest >= step["value"]][-1]
    axes.set_facecolor(COLOURS[colour])
    text = words(defaults).get(f"{newest:g}") or shown(newest, defaults["unit"])
    if target["legendFormat"].startswith("{{"):
        text = next(iter(labels.values()))
    axes.text(
        0.5,
        0.5,
        text,
        transform=axes.transAxes,
        ha="center",
        va="center",
        fontsize=17,
        weight="bold",
        color="white",
    )


def words(defaults: dict[str, Any]) -> dict[str, str]:
    """Return the text that a panel shows in place of a value."""
    return {
        value: result["text"]
        for mapping in defaults.get("mappings", [])
        for value, result in mapping["options"].items()
    }


def _series(axes: Axes, panel: dict[str, Any], found: Sequence[Line], incident: Played) -> None:
    defaults = panel["fieldConfig"]["defaults"]
    fixed = {
        rule["matcher"]["options"]: COLOURS[rule["properties"][0]["value"]["fixedColor"]]
        for rule in panel["fieldConfig"]["overrides"]
    }
    drawn = [(legend, *whole(points, incident.started, incident.ended)) for legend, points in found]
    colours = [fixed.get(legend, CYCLE[place % len(CYCLE)]) for place, (legend, _, _) in enumerate(drawn)]
    if defaults.get("custom", {}).get("stacking", {}).get("mode") == "normal":
        zeroed = [[0.0 if math.isnan(value) else value for value in values] for _, _, values in drawn]
        axes.stackplot(
            drawn[0][1], zeroed, labels=[legend for legend, _, _ in drawn], colors=colours, alpha=0.75
        )
    else:
        for (legend, times, values), colour in zip(drawn, colours, strict=True):
            dashed = "--" if legend == "limit" else "-"
            axes.plot(times, values, label=legend, color=colour, linewidth=1.2, linestyle=dashed)
    top = axes.get_ylim()[1] if any(value for _, points in found for _, value in points) else 1
    axes.set_ylim(0, 1.08 * top)
    axes.set_axisbelow(True)
    axes.yaxis.set_major_locator(MaxNLocator(4))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: shown(value, defaults["unit"])))
    axes.grid(axis="y", linewidth=0.6)
    inches = 0.36 + 0.055 * max(len(legend) for legend, _ in found)
    columns = max(1, int(axes.get_window_extent().width / axes.figure.dpi / inches))
    axes.legend(loc="upper left", bbox_to_anchor=(-0.02, -0.12), ncols=columns, **LEGEND)


def _states(axes: Axes, panel: dict[str, Any], found: Sequence[Line], incident: Played) -> None:
    steps = panel["fieldConfig"]["defaults"]["thresholds"]["steps"]
    for place, (_, points) in enumerate(found):
        for at, value in points:
            colour = [step["color"] for step in steps if step["value"] is None or value >= step["value"]][-1]
            times = [moment(at + part) for part in (-0.5, 0.5)]
            axes.fill_between(times, place - 0.36, place + 0.36, color=COLOURS[colour], linewidth=0)
    axes.set_yticks(range(len(found)), [legend.removeprefix("Precall") for legend, _ in found])
    axes.set_ylim(-0.6, max(len(found), 3) - 0.4)
    axes.invert_yaxis()


def _timeline(axes: Axes, incident: Played, marks: Sequence[tuple[datetime, str]]) -> None:
    axes.set_xlim(moment(incident.started), moment(incident.ended))
    axes.xaxis.set_major_locator(SecondLocator(bysecond=(0, 30)))
    axes.xaxis.set_major_formatter(DateFormatter("%H:%M:%S"))
    axes.tick_params(length=0, labelsize=7)
    for at, colour in marks:
        axes.axvline(at, color=colour, linewidth=1, linestyle=":")


def main() -> None:
    """Play the incident, and draw every dashboard."""
    with tempfile.TemporaryDirectory(prefix="precall-incident-") as folder, mpl.rc_context(STYLE):
        Path(folder).chmod(0o755)
        with played(Path(folder)) as incident:
            for file in FILES:
                draw(incident, file, GRAFANA / f"{file.stem}.png")


if __name__ == "__main__":
    main()
