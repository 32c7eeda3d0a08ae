"""Views of `precall watch`: a screen on a terminal, one line for each change elsewhere."""

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, Self

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from precall.cli.output import STYLES, clock_time
from precall.cli.status_view import StatusView
from precall.core.status.texts import Language

KEPT = 200
"""How many changes a screen can show."""
_WORDS = {
    Language.EN: {
        "changes": "changes, newest first",
        "none": "none yet",
        "end": "q ends it",
        "lost": "no answer",
        "new": "new",
        "over": "over",
    },
    Language.ZH: {
        "changes": "变更，最新的在前",
        "none": "暂无",
        "end": "按 q 退出",
        "lost": "没有应答",
        "new": "新增",
        "over": "结束",
    },
}


class WatchLines:
    """A view for pipes and files: a line for each change of the verdict, of a finding or of a route."""

    def __init__(self, out: Console, language: Language, clock: Callable[[], float]) -> None:
        """`clock` gives Unix seconds."""
        self._out, self._words, self._clock = out, _WORDS[language], clock
        self._language = language
        self._verdict, self._why = "", ""
        self._findings: dict[tuple[str, str], str] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return

    def state(self, status: Mapping[str, Any]) -> None:
        if self._why or status["verdict"] != self._verdict:
            self._verdict, self._why = status["verdict"], ""
            self._say(StatusView(status, self._language).lines()[0].plain)
        found = {(one["code"], one["pool_key"]): str(one["summary"]) for one in status["findings"]}
        for key, summary in found.items():
            if key not in self._findings:
                self._say(f"{self._words['new']} {key[0]}: {summary}")
        for code, pool_key in self._findings.keys() - found.keys():
            self._say(" ".join(filter(None, (self._words["over"], code, pool_key))))
        self._findings = found

    def changed(self, routes: Sequence[Mapping[str, Any]]) -> None:
        for route in routes:
            self._say(_told(route).plain)

    def lost(self, why: str) -> None:
        if why != self._why:
            self._why = why
            self._say(f"{self._words['lost']}: {why}")

    def _say(self, text: str) -> None:
        self._out.print(Text(f"{clock_time(self._clock())}  {text}"))
        self._out.file.flush()


class WatchScreen:
    """A view for terminals: the state above, the newest changes below, at the size of the terminal."""

    def __init__(self, out: Console, language: Language, clock: Callable[[], float]) -> None:
        """`clock` gives Unix seconds."""
        self._out, self._language, self._clock = out, language, clock
        self._words = _WORDS[language]
        self._status: Mapping[str, Any] | None = None
        self._changes: deque[tuple[float, Mapping[str, Any]]] = deque(maxlen=KEPT)
        self._why = ""
        self._live = Live(
            console=out,
            screen=True,
            auto_refresh=False,
            get_renderable=lambda: Group(*self.lines(out.width, out.height)),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        if self._live.is_started:
            self._live.stop()

    def state(self, status: Mapping[str, Any]) -> None:
        self._status, self._why = status, ""
        self._draw()

    def changed(self, routes: Sequence[Mapping[str, Any]]) -> None:
        now = self._clock()
        self._changes.extend((now, route) for route in routes)
        self._draw()

    def lost(self, why: str) -> None:
        self._why = why
        self._draw()

    def _draw(self) -> None:
        if not self._live.is_started:  # only now: an error at the start stays on the usual screen
            self._live.start()
        self._live.refresh()

    def lines(self, width: int, height: int) -> list[Text]:
        """Return the screen for a terminal of this size: two thirds at most for the state, the rest for changes."""
        title = Text(self._words["changes"], style="bold").append(
            f"   {self._words['end']}", style="not bold"
        )
        lost = [Text(f"{self._words['lost']}: {self._why}", style="bold red")] if self._why else []
        most = height * 2 // 3 - len(lost)
        state = []
        if self._status is not None:
            state = StatusView(self._status, self._language, width=width, height=most).lines()[:most]
        told = [Text(f"{clock_time(at)}  ").append(_told(route)) for at, route in reversed(self._changes)]
        lines = [*lost, *state, Text(), title, *(told or [Text(self._words["none"])])][:height]
        for line in lines:
            line.truncate(width, overflow="ellipsis")
        return lines


def _told(route: Mapping[str, Any]) -> Text:
    """Return a changed route on one line, without its number."""
    line = Text(f"{route['subs_id']:<16}  ")
    line.append(f"{route['action']:<11}", style=STYLES.get(route["action"], ""))
    return line.append(f"  {route['reason']}")
