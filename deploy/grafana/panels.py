"""Panels and dashboards in few words: what all of ours have in common, said once to grafana-foundation-sdk.

In an expression `{}` is the choice of job and instance, `{pool}` that and the pool; other labels follow after a comma:
`precall_routes{}`, `precall_routes{,state="normal"}`, `precall_exposures_total{pool}`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from grafana_foundation_sdk.builders import common, dashboard, prometheus, stat, statetimeline, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.common import (
    BigValueColorMode,
    BigValueGraphMode,
    LegendDisplayMode,
    LegendPlacement,
    StackingMode,
    TooltipDisplayMode,
    VisibilityMode,
)
from grafana_foundation_sdk.models.dashboard import (
    DashboardCursorSync,
    DashboardLinkType,
    DataSourceRef,
    DynamicConfigValue,
    FieldColorModeId,
    Threshold,
    ThresholdsMode,
    ValueMap,
    ValueMappingResult,
    VariableRefresh,
    VariableSort,
)

WIDTH = 24
SOURCE = DataSourceRef(type_val="prometheus", uid="${datasource}")
CHOICE = 'job=~"$job",instance=~"$instance"'

STATES = {
    "normal": "green",
    "temporary": "yellow",
    "fallback": "red",
    "unverified": "blue",
    "blocked": "purple",
}
COLOURS = {
    "fresh": "green",
    "stale": "orange",
    "answered": "green",
    "throttled": "orange",
    "failed": "red",
    "limit": "text",
}
"""Of series by their legend: what means trouble looks so on every dashboard."""


@dataclass(frozen=True, slots=True)
class Panel:
    """`queries` are legend to expression; a stat shows the newest value of its first one, coloured by `steps`."""

    title: str
    description: str
    unit: str
    queries: Mapping[str, str]
    kind: Literal["stat", "series", "stack", "states"] = "series"
    span: int = 8
    steps: Sequence[tuple[float, str]] = ()
    words: Mapping[int, str] | None = None


def selected(expression: str) -> str:
    """The expression with its choice of job, instance and pool written out."""
    for short, choice in (
        ("{pool", f'{{{CHOICE},pool=~"$pool"'),
        ("{,", f"{{{CHOICE},"),
        ("{}", f"{{{CHOICE}}}"),
    ):
        expression = expression.replace(short, choice)
    return expression


def built(uid: str, title: str, description: str, panels: Sequence[Panel]) -> str:
    """The dashboard as JSON."""
    board = (
        dashboard.Dashboard(title)
        .uid(uid)
        .description(description)
        .tags(["precall"])
        .timezone("browser")
        .time("now-3h", "now")
        .refresh("30s")
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .link(
            dashboard.DashboardLink("precall")
            .type(DashboardLinkType.DASHBOARDS)
            .tags(["precall"])
            .keep_time(True)
            .include_vars(True)
        )
        .with_variable(dashboard.DatasourceVariable("datasource").label("Data source").type("prometheus"))
        .with_variable(_variable("job", "precall_build_info"))
        .with_variable(_variable("instance", 'precall_build_info{job=~"$job"}'))
        .with_variable(_variable("pool", 'precall_pool_routes{job=~"$job",instance=~"$instance"}'))
        .annotation(_annotation("Restarts", "red", "process_start_time_seconds{}"))
        .annotation(_annotation("Reloads", "blue", "precall_config_last_reload_success_timestamp_seconds{}"))
    )
    for number, panel in enumerate(panels, 1):
        board.with_panel(_panel(panel).id(number))
    return JSONEncoder(sort_keys=True, indent=2).encode(board.build()) + "\n"


def _variable(name: str, series: str) -> dashboard.QueryVariable:
    return (
        dashboard.QueryVariable(name)
        .label(name.capitalize())
        .datasource(SOURCE)
        .query(f"label_values({series}, {name})")
        .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(VariableSort.ALPHABETICAL_ASC)
        .multi(True)
        .include_all(True)
        .all_value(".+")
    )


def _annotation(name: str, colour: str, series: str) -> dashboard.AnnotationQuery:
    return (
        dashboard.AnnotationQuery()
        .name(name)
        .datasource(SOURCE)
        .enable(True)
        .icon_color(colour)
        .expr(f"changes({selected(series)}[$__rate_interval]) > 0")
    )


def _panel(panel: Panel) -> "timeseries.Panel | stat.Panel | statetimeline.Panel":
    made = {"stat": _stat, "series": _series, "stack": _stack, "states": _states}[panel.kind](panel)
    made.title(panel.title).description(panel.description).unit(panel.unit).datasource(SOURCE).span(
        panel.span
    )
    for place, (legend, expression) in enumerate(panel.queries.items()):
        made.with_target(
            prometheus.Dataquery()
            .datasource(SOURCE)
            .expr(selected(expression))
            .legend_format(legend)
            .ref_id(chr(ord("A") + place))
            .range()
        )
    if panel.steps:
        steps = [Threshold(None, "green"), *(Threshold(value, colour) for value, colour in panel.steps)]
        made.thresholds(dashboard.ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(steps))
    if panel.words:
        results = {str(value): ValueMappingResult(text=word) for value, word in panel.words.items()}
        made.mappings([ValueMap(options=results)])
    return made


def _stat(_panel: Panel) -> stat.Panel:
    return (
        stat.Panel()
        .height(4)
        .graph_mode(BigValueGraphMode.AREA)
        .color_mode(BigValueColorMode.BACKGROUND)
        .color_scheme(dashboard.FieldColor().mode(FieldColorModeId.THRESHOLDS))
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
    )


def _series(panel: Panel) -> timeseries.Panel:
    made = (
        timeseries.Panel()
        .height(8)
        .min(0)
        .fill_opacity(10)
        .show_points(VisibilityMode.NEVER)
        .legend(
            common.VizLegendOptions()
            .display_mode(LegendDisplayMode.LIST)
            .placement(LegendPlacement.BOTTOM)
            .show_legend(True)
        )
        .tooltip(common.VizTooltipOptions().mode(TooltipDisplayMode.MULTI))
    )
    named = {name: colour for name, colour in COLOURS.items() if name in panel.queries}
    for name, colour in (STATES if "{{state}}" in panel.queries else named).items():
        fixed = {"mode": "fixed", "fixedColor": colour}
        made.override_by_name(name, [DynamicConfigValue(id_val="color", value=fixed)])
    return made


def _stack(panel: Panel) -> timeseries.Panel:
    stacked = common.StackingConfig().mode(StackingMode.NORMAL)
    return _series(panel).stacking(stacked).fill_opacity(60).line_width(0)


def _states(_panel: Panel) -> statetimeline.Panel:
    return (
        statetimeline.Panel()
        .height(8)
        .color_scheme(dashboard.FieldColor().mode(FieldColorModeId.THRESHOLDS))
        .show_value(VisibilityMode.NEVER)
        .legend(common.VizLegendOptions().show_legend(False))
    )
