"""Views of the demonstration: a panel that fills the screen of a terminal, plain lines elsewhere."""

import io
import sys
from collections import deque
from collections.abc import Iterable, Mapping
from contextlib import ExitStack, redirect_stderr
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from precall.cli import streams
from precall.cli.curves import Curve, curves
from precall.cli.demo import DemoTally, RouteMove
from precall.cli.demo_story import DemoCaption
from precall.cli.output import STYLES, clock_time
from precall.core.model import Action
from precall.core.status.texts import Language, duration, singular
from precall.simulator import failed

LINES_EVERY = 5.0
LINES_PER_GLANCE = 4
MOST_CHANGES = 100
MOST_CAPTIONS = 20
BAR = 40
BESIDE_THE_BAR = 51
"""Columns that the table of routes needs beside its bars."""
NARROW = 100
"""Columns below which a change is shown without its time, and with the end of its id."""
TITLES = 2
"""Lines above the curves and above the changes."""
CURVES_AT_THE_END = 6
AIRY = 34
"""Lines of a screen from which on the parts of the panel have a blank line between them."""
LOG_KEPT = 10_000
"""Characters of the log that are shown after the panel."""
ALONE, ROUTED = "bold red", "bold green"


class Lines:
    """A view for pipes and files: captions and changes as they come, and a summary now and then."""

    def __init__(self, out: Console) -> None:
        self._out = out
        self._said_at = -LINES_EVERY
        self._room = LINES_PER_GLANCE
        self._left_out = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return

    def opened(self, url: str, provider: str, bindings: int) -> None:
        self._out.print(f"precall demo: {bindings} bindings that fail and recover; Ctrl-C ends it")
        for name, address in pages(url).items():
            self._out.print(f"  {name:<8}  {address}")
        self._out.print(f"  provider  {provider} (simulated; see /_admin/stats)")

    def add_caption(self, caption: DemoCaption) -> None:
        self._out.print(_caption(caption))

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


@dataclass(frozen=True, slots=True)
class _Rows:
    """How many lines of a screen the parts have that may take more or less. `gaps` are blank lines between parts."""

    captions: int
    curves: int
    changes: int
    gap: int

    @classmethod
    def of(cls, height: int, fixed: int) -> "_Rows":
        gap = int(height >= AIRY)
        left = max(0, height - fixed - gap * Panel.GAPS)
        captions = max(2, min(10, left // 4))
        drawn = max(4, min(18, left * 2 // 5))
        return cls(captions, drawn, max(0, left - captions - drawn), gap)


class Panel:
    """A view for terminals: everything at a glance, on a screen of its own that follows the size of the terminal.

    What is logged meanwhile is shown on standard error once the panel is gone.
    """

    GAPS = 5

    def __init__(self, out: Console) -> None:
        self._out = out
        self._url, self._provider = "", ""
        self._captions: deque[DemoCaption] = deque(maxlen=MOST_CAPTIONS)
        self._changes: deque[RouteMove] = deque(maxlen=MOST_CHANGES)
        self._tally = DemoTally()
        self._log, self._diverted = io.StringIO(), ExitStack()
        self._live = Live(
            console=out,
            screen=True,
            auto_refresh=False,
            redirect_stdout=False,
            redirect_stderr=False,
            get_renderable=lambda: Group(*self.lines(out.width, out.height)),
        )

    def __enter__(self) -> Self:
        self._diverted.enter_context(redirect_stderr(self._log))
        self._live.start()
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._live.stop()
        self._diverted.close()
        sys.stderr.write(self._log.getvalue()[-LOG_KEPT:])

    def opened(self, url: str, provider: str, bindings: int) -> None:
        self._url, self._provider = url, provider
        self._tally.bindings = bindings
        self._live.refresh()

    def add_caption(self, caption: DemoCaption) -> None:
        self._captions.append(caption)
        self._live.refresh()

    def moved(self, change: RouteMove) -> None:
        self._changes.append(change)
        self._live.refresh()

    def glance(self, tally: DemoTally) -> None:
        self._tally = tally
        self._live.refresh()

    def lines(self, width: int, height: int) -> list[Text]:
        """Return the panel for a screen of this size, which it fills if there is enough to tell."""
        tally = self._tally
        head, table, brake = self._head(width, height), self._routes(width), _brake(tally.brakes)
        observed = [*map(_observed, tally.report.get("observed", ()))] if height >= AIRY else []
        rows = _Rows.of(height, len(head) + len(table) + len(brake) + len(observed) + TITLES)
        captions = [_caption(caption) for caption in reversed(self._captions)][: rows.captions]
        captions += [Text()] * (rows.captions - len(captions))
        moved = Text("changes, newest first", style="bold").append(f"   {_pace(tally)}", style="not bold")
        parts = [
            head,
            captions,
            [
                *_comparison(tally, width, rows.curves),
                *observed,
            ],
            table,
            brake,
            [moved, *self._news(width, rows.changes)],
        ]
        shown: list[Text] = []
        for part in parts:
            shown += [*([Text()] * rows.gap if shown else ()), *part]
        for line in shown:
            line.truncate(width, overflow="ellipsis" if streams.is_utf8() else "crop")
        return shown[:height]

    def _head(self, width: int, height: int) -> list[Text]:
        title = Text(f"precall demo  t+{self._tally.seconds:.0f} s  ", style="bold")
        title.append(
            f"{self._tally.bindings} bindings that fail and recover; Ctrl-C ends it", style="not bold"
        )
        found = pages(self._url)
        if height >= AIRY:
            found["provider"] = f"{self._provider} (simulated)"
            return [title, *(Text(f"  {name:<8}  {address}") for name, address in found.items())]
        name, address = next(iter(found.items()))
        more = "  ".join(other.removeprefix(self._url) for other in [*found.values()][1:])
        return [title, Text(f"{name}  {address}  {more}" if width >= len(address) + len(more) else address)]

    def _routes(self, width: int) -> list[Text]:
        """Return the table of routes with bars."""
        tally = self._tally
        widest = max(1, min(BAR, width - BESIDE_THE_BAR)) if width < NARROW else width - BESIDE_THE_BAR
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
            bar = Text(("█" if streams.is_utf8() else "#") * length, style=style)
            table.add_row(Text(action, style=style), str(count), bar, str(tally.calls.told[action]))
        return [
            *map(_joined, self._out.render_lines(table, self._out.options.update(width=width), pad=False))
        ]

    def _news(self, width: int, most: int) -> list[Text]:
        newest = [*reversed(self._changes)][:most]
        return [_news(change, narrow=width < NARROW) for change in newest]


def pages(url: str) -> dict[str, str]:
    """Return what a browser may open, the most useful first."""
    return {
        "console": f"{url}/console/",
        "routes": f"{url}/v1/routes",
        "metrics": f"{url}/metrics",
        "openapi": f"{url}/openapi.json",
    }


def summary(tally: DemoTally, program: str, width: int | None = None) -> list[Text]:
    """Return the end of the demonstration: what asking was worth, and what to try next.

    `program` is how the reader's shell finds precall. Only for a terminal, which has a `width`, are there curves.
    """
    answers = Text("  ")
    for action in Action:
        answers.append(f"{action} {tally.calls.told[action]}   ", style=STYLES[action])
    answers.rstrip()
    commands = commands_to_try(program)
    widest = max(map(len, commands))
    drawn = [] if width is None else [*_comparison(tally, width, CURVES_AT_THE_END), Text()]
    return [
        *drawn,
        Text(
            f"{tally.seconds:.0f} s: {tally.checks} checks of {tally.bindings} bindings, {tally.changes} route changes"
        ),
        Text(f"the dispatcher asked {tally.calls.asked} times, and the answers were"),
        answers,
        Text("and of its calls, and of the same calls made without asking,"),
        *_calls(tally),
        Text(),
        Text("three commands to try", style="bold"),
        *(Text(f"  {command:<{widest}}  # {what}") for command, what in commands.items()),
    ]


def commands_to_try(program: str) -> dict[str, str]:
    """Return three commands that work at once, and what each does."""
    return {
        f"{program} plan --bindings 100000": "what a budget buys",
        f"{program} simulate --export bindings.jsonl": "this provider alone",
        f"{program} init precall": "your own configuration",
    }


def _calls(tally: DemoTally) -> list[Text]:
    """Return how many calls failed through the number dialled: by the routes of precall, and by X alone."""
    calls, lines = tally.calls, []
    for name, endings in (("by precall's route", calls.routed), ("by the bound X alone", calls.alone)):
        bad, placed = failed(endings)
        lines.append(Text(f"  {name:<22}{bad:4d} of {placed:4d} calls failed  {bad / (placed or 1):6.1%}"))
    if calls.not_placed:
        lines[0].append(f"   ({calls.not_placed} held back)")
    return [*lines, *map(_observed, tally.report.get("observed", ()))]


def _comparison(tally: DemoTally, width: int, height: int) -> list[Text]:
    """Return the two curves below a title."""
    held = f" ({tally.calls.not_placed} held back by precall)" if tally.calls.not_placed else ""
    title = Text("failed calls so far", style="bold").append(held, style="not bold")
    return [title, *curves(_failures(tally), width, height, unicode=streams.is_utf8())]


def _failures(tally: DemoTally) -> list[Curve]:
    """Return the two curves, with their last values in words."""
    found = []
    for name, style, sign, endings in (
        ("X alone", ALONE, "x", tally.calls.alone),
        ("precall", ROUTED, "o", tally.calls.routed),
    ):
        bad, placed = failed(endings)
        points = [(one.seconds, one.alone if sign == "x" else one.routed) for one in tally.failures]
        points.append((tally.seconds, bad))
        found.append(Curve(f"{name}: {bad} of {placed}, {bad / (placed or 1):.1%}", style, sign, points))
    return found


def _observed(pool: Mapping[str, Any]) -> Text:
    """Return what precall would have done in a pool that is only observed."""
    avoided, changed = pool["avoided"], pool["changed"]
    would_avoid = f"would avoid {avoided['calls']} of {avoided['of']} failed"
    would_change = f"change {changed['calls']} of {changed['of']} good"
    return Text(f"  {pool['pool_key']} observed: {would_avoid}, {would_change}")


def _brake(brakes: Mapping[str, Mapping[str, Any]]) -> list[Text]:
    """Return the exposure brake in two lines: how it stands, and what it is for."""
    if not brakes:
        return [Text("brake  off"), Text()]
    pool_key, brake = max(brakes.items(), key=lambda one: (bool(one[1]["engaged_since"]), one[1]["used"]))
    window = duration(brake["window"], Language.EN)
    if brake["engaged_since"] or brake["ordered"]:
        state = (
            f"{pool_key} gave out {brake['used']} real numbers in {window}: {brake['held']} bindings are held"
        )
        why = "so many at once are more likely a fault of the provider than the truth"
        return [Text("brake  ").append(singular(state), style=STYLES["hold"]), Text(f"       {why}")]
    state = f"off: at most {brake['cap']} bindings of a pool may turn to a real number in {window}"
    return [
        Text(f"brake  {state}"),
        Text(f"       so far {pool_key} had {brake['used']}; beyond that, calls are held"),
    ]


def _caption(caption: DemoCaption) -> Text:
    time, colon, text = str(caption).partition(": ")
    return Text(f"{time}{colon}", style="bold").append(text, style="yellow" if caption.bad else "not bold")


def _news(change: RouteMove, *, narrow: bool = False) -> Text:
    which = f"...{change.subs_id[-4:]}" if narrow else f"{clock_time(change.at)}  {change.subs_id}"
    line = Text(f"{which}  {change.before:>10} -> {change.after:<10}  ")
    line.append(f"{change.action:<11}", style=STYLES[change.action])
    return line.append(f" {change.number:<5} {change.reason}")


def _pace(tally: DemoTally) -> str:
    return f"{tally.checks_per_second:.0f} checks/s  {tally.changes} changes  {tally.calls.asked} questions"


def _joined(segments: Iterable[Any]) -> Text:
    line = Text.assemble(*((one.text, one.style or "") for one in segments if not one.control))
    line.rstrip()
    return line
