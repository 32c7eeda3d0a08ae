"""Views of the demonstration: a panel that is redrawn on a terminal, plain lines elsewhere."""

from collections import deque
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from precall.cli.demo import DemoTally, RouteMove
from precall.cli.output import STYLES, clock_time
from precall.core.model import Action
from precall.simulator import failed

LINES_EVERY = 5.0
LINES_PER_GLANCE = 4
LAST_CHANGES = 12
BAR = 40
BESIDE_THE_BAR = 51
"""Columns that the table of routes needs beside its bars."""
NARROW = 100
"""Columns below which a change is shown without its time, and with the end of its id."""


class Lines:
    """A view for pipes and files: changes as they come, and a summary now and then."""

    def __init__(self, out: Console) -> None:
        self._out = out
        self._said_at = -LINES_EVERY
        self._room = LINES_PER_GLANCE
        self._left_out = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return

    def opened(self, url: str, provider: str, bindings: int, remark: str) -> None:
        for line in _heading(url, provider, bindings, remark):
            self._out.print(line)

    def moved(self, change: RouteMove) -> None:
        if not self._room:
            self._left_out += 1
            return
        self._room -= 1
        self._out.print(_news(change))

    def glance(self, tally: DemoTally) -> None:
        if self._left_out:
            self._out.print(f"          ... and {self._left_out} more changes")
        self._room, self._left_out = LINES_PER_GLANCE, 0
        if tally.seconds - self._said_at >= LINES_EVERY:
            self._said_at = tally.seconds
            routes = "  ".join(f"{action} {tally.routes[action]}" for action in Action)
            self._out.print(f"{tally.seconds:4.0f} s  routes: {routes}  |  {_pace(tally)}")


class Panel:
    """A view for terminals: everything at a glance, redrawn in place."""

    def __init__(self, out: Console) -> None:
        self._out = out
        self._heading: list[Text] = []
        self._changes: deque[RouteMove] = deque(maxlen=LAST_CHANGES)
        self._tally = DemoTally()
        self._live = Live(console=out, auto_refresh=False, get_renderable=self._picture)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def opened(self, url: str, provider: str, bindings: int, remark: str) -> None:
        self._heading = _heading(url, provider, bindings, remark)
        self._live.refresh()

    def moved(self, change: RouteMove) -> None:
        self._changes.append(change)
        self._live.refresh()

    def glance(self, tally: DemoTally) -> None:
        self._tally = tally
        self._live.refresh()

    def _picture(self) -> Group:
        """Return what fits on the screen. The latest changes take the lines that are left."""
        tally, width, height = self._tally, self._out.width, self._out.height
        widest = max(1, min(BAR, width - BESIDE_THE_BAR))
        table = Table(box=None, pad_edge=False, header_style="bold")
        table.add_column("route", min_width=12)
        table.add_column("bindings", justify="right")
        table.add_column("", min_width=widest)
        table.add_column("answers to the dispatcher", justify="right")
        for action in Action:
            count = tally.routes[action]
            # A small share must still be visible.
            length = max(1, round(widest * count / (tally.bindings or 1))) if count else 0
            style = STYLES[action]
            bar = Text("█" * length, style=style)
            table.add_row(Text(action, style=style), str(count), bar, str(tally.calls.told[action]))
        pace = Text(f"{tally.seconds:.0f} s  {_pace(tally)}")
        below = [Text(), pace, *_calls(tally), Text(), Text("changes", style="bold")]
        above = [*self._heading, Text()]
        left = max(0, height - len(above) - (1 + table.row_count) - len(below))
        news = [_news(change, narrow=width < NARROW) for change in list(self._changes)[-left:] if left]
        return Group(*above, table, *below, *news)


def summary(tally: DemoTally) -> list[Text]:
    """Return the summary at the end."""
    answers = Text("  ")
    for action in Action:
        answers.append(f"{action} {tally.calls.told[action]}   ", style=STYLES[action])
    return [
        Text(
            f"{tally.seconds:.0f} s: {tally.checks} checks of {tally.bindings} bindings, {tally.changes} route changes"
        ),
        Text(f"the dispatcher asked {tally.calls.asked} times, and the answers were"),
        answers,
        Text("and of its calls, and of the same calls made without asking,"),
        *_calls(tally),
    ]


def _calls(tally: DemoTally) -> list[Text]:
    """Return how many calls failed through the number dialled: by the routes of precall, and by X alone."""
    calls, lines = tally.calls, []
    for name, endings in (("by precall's route", calls.routed), ("by the bound X alone", calls.alone)):
        bad, placed = failed(endings)
        lines.append(Text(f"  {name:<22}{bad:4d} of {placed:4d} calls failed  {bad / (placed or 1):6.1%}"))
    if calls.not_placed:
        lines[0].append(f"   ({calls.not_placed} held back)")
    return [*lines, *map(_observed, tally.report.get("observed", ()))]


def _observed(pool: Mapping[str, Any]) -> Text:
    """Return what precall would have done in a pool that is only observed."""
    avoided, changed = pool["avoided"], pool["changed"]
    would_avoid = f"would avoid {avoided['calls']} of {avoided['of']} failed"
    would_change = f"change {changed['calls']} of {changed['of']} good"
    return Text(f"  {pool['pool_key']} observed: {would_avoid}, {would_change}")


def _heading(url: str, provider: str, bindings: int, remark: str) -> list[Text]:
    lines = [
        Text(f"precall demo: {bindings} bindings that fail and recover; Ctrl-C ends it", style="bold"),
        Text(f"  routes    {url}/v1/routes"),
        Text(f"  metrics   {url}/metrics"),
        Text(f"  openapi   {url}/openapi.json"),
        Text(f"  provider  {provider} (simulated; see /_admin/stats)"),
    ]
    return [*lines, Text(f"  {remark}", style="yellow")] if remark else lines


def _news(change: RouteMove, *, narrow: bool = False) -> Text:
    which = f"…{change.subs_id[-4:]}" if narrow else f"{clock_time(change.at)}  {change.subs_id}"
    line = Text(f"{which}  {change.before:>10} -> {change.after:<10}  ")
    line.append(f"{change.action:<11}", style=STYLES[change.action])
    return line.append(f" {change.number:<5} {change.reason}")


def _pace(tally: DemoTally) -> str:
    return (
        f"{tally.checks_per_second:.0f} checks/s  {tally.changes} changes"
        f"  {tally.calls.asked} questions of the dispatcher"
    )
