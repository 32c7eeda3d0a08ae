"""The state of the system on one screen: a verdict, what is wrong with its remedy, then the parts and the pools."""

import textwrap
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from rich.cells import cell_len
from rich.text import Text

from precall.core.status.texts import Language, duration, singular

STYLES = {"fine": "bold green", "degraded": "bold yellow", "misleading": "bold red", "critical": "bold red"}
_MEANINGS = {
    Language.EN: {
        "fine": "nothing is wrong",
        "degraded": "something needs attention; dispatchers get right routes",
        "misleading": "dispatchers get wrong routes, or will soon",
    },
    Language.ZH: {
        "fine": "没有问题",
        "degraded": "有需要处理的问题，但给出的路由有效",
        "misleading": "给出的路由不真实，或即将不真实",
    },
}
_ZH = {
    "fine": "正常",
    "degraded": "有警告",
    "misleading": "误导",
    "critical": "严重",
    "warning": "警告",
    "for": "已持续",
    "cause": "原因",
    "by": "下令",
    "do": "处理",
    "provider": "供应商",
    "account": "账号",
    "database": "数据库",
    "leader": "主持",
    "brake": "刹车",
    "pauses": "暂停",
    "budget": "预算",
    "source": "数据源",
    "answers": "有应答",
    "fails": "失败",
    "out of reach": "无法访问",
    "accepted": "正常",
    "refused": "被拒绝",
    "takes writes": "可写",
    "takes no writes": "不可写",
    "rows wait": "行等待",
    "this daemon": "本进程",
    "another daemon": "另一进程",
    "open": "未触发",
    "none": "无",
    "all pools": "所有号码池",
    "oldest": "最旧",
    "of": "/",
    "in step": "已同步",
    "removals refused": "删除被拒绝",
    "pool": "号码池",
    "bindings": "绑定",
    "normal": "正常",
    "temporary": "临时",
    "fallback": "无号码",
    "blocked": "封停",
    "unverified": "未检查",
    "up": "已运行",
    "more": "另有",
    "never": "从未",
    "daemons": "进程",
    "leading": "主持",
    "standby": "备用",
    "fenced": "已退位",
}
"""The words of the screen in Chinese. Others are shown as they are."""
_POOL_COLUMNS = ("bindings", "normal", "temporary", "fallback", "blocked", "unverified")


class StatusView:
    """Draws an answer of `/v1/status`.

    Lines are wrapped or cut to `width` columns, and findings and pools left out beyond `height` lines. Without them
    everything is shown, since programs may read it.
    """

    def __init__(
        self,
        status: Mapping[str, Any],
        language: Language = Language.EN,
        *,
        width: int | None = None,
        height: int | None = None,
    ) -> None:
        self._status, self._language = status, language
        self._width, self._height = width, height
        self._now = _seconds(status["daemon"]["at"])

    def lines(self) -> list[Text]:
        """Return the screen."""
        verdict, strip = self._verdict(), self._strip()
        # Besides: a blank line between the parts, and the line of the cursor.
        room = None if self._height is None else self._height - 1 - len(strip) - 4
        findings = self._findings(room)
        pools = self._pools(None if room is None else room - len(findings))
        lines = [line for part in ([verdict], findings, strip, pools) if part for line in (*part, Text())]
        return lines[:-1]

    def _word(self, word: str) -> str:
        return _ZH.get(word, word) if self._language is Language.ZH else word

    def _span(self, since: str) -> str:
        return (
            duration(max(0.0, self._now - _seconds(since)), self._language) if since else self._word("never")
        )

    def _verdict(self) -> Text:
        verdict = self._status["verdict"]
        line = Text(self._word(verdict).upper(), style=STYLES[verdict])
        return _cut(line.append(f": {_MEANINGS[self._language][verdict]}", style="not bold"), self._width)

    def _findings(self, room: int | None) -> list[Text]:
        """Return the findings that fit into `room` lines, and the codes of the others in one line."""
        shown: list[Text] = []
        findings: Sequence[Mapping[str, Any]] = self._status["findings"]
        for place, finding in enumerate(findings):
            lines = self._finding(finding)
            left = len(findings) - place - 1
            if room is not None and shown and len(shown) + len(lines) + (left > 0) > room:
                codes = ", ".join(str(other["code"]) for other in findings[place:])
                more = f"{self._word('more')} (precall status | cat): {codes}"
                return [*shown, _cut(Text(more, style="bold"), self._width)]
            shown += lines
        return shown

    def _finding(self, finding: Mapping[str, Any]) -> list[Text]:
        style = STYLES.get(finding["severity"], "bold yellow")
        severity, since = self._word(finding["severity"]), self._span(finding["since"])
        head = Text(f"{severity}: {finding['code']}", style=style)
        head.append(f"  {self._word('for')} {since}", style="not bold default")
        told = {"cause": finding["cause"], "by": self._ordered(finding), "do": finding["remedy"]}
        width = max(cell_len(self._word(label)) for label in told)
        lines = [head, *self._wrapped("  ", finding["summary"])]
        for label, text in told.items():
            if text:
                lines += self._wrapped(f"  {_padded(self._word(label), width)}  ", text)
        return lines

    def _ordered(self, finding: Mapping[str, Any]) -> str:
        """Return who gave the order behind a finding, and why, as far as this is told."""
        kind = {"paused": "pause", "brake_ordered": "brake"}.get(finding["code"])
        for order in self._status["orders"]:
            if (order["kind"], order.get("pool_key")) == (kind, finding["pool_key"]) and order["by"]:
                return f"{order['by']}: {order['reason']}" if order["reason"] else str(order["by"])
        return ""

    def _wrapped(self, label: str, text: str) -> list[Text]:
        if self._width is None:
            return [Text(label + text)]
        if self._language is Language.EN:
            found = textwrap.wrap(text, self._width - cell_len(label), break_on_hyphens=False) or [""]
        else:
            found = _folded(text, self._width - cell_len(label))
        return [Text((" " * cell_len(label) if place else label) + part) for place, part in enumerate(found)]

    def _strip(self) -> list[Text]:
        pairs = [
            ("provider", self._provider()),
            ("account", self._word("refused" if self._status["provider"]["refused_since"] else "accepted")),
            ("database", self._database()),
            ("leader", self._leader()),
            ("brake", self._brake()),
            ("pauses", self._pauses()),
            ("budget", self._budget()),
            ("source", self._source()),
        ]
        width = max(cell_len(self._word(name)) for name, _ in pairs)
        half = None if self._width is None else (self._width - 2) // 2
        lines = []
        for left, right in zip(pairs[::2], pairs[1::2], strict=True):
            first = _padded(self._cell(left, width), half or 45, cut=half is not None)
            lines.append(_cut(Text(f"{first}  {self._cell(right, width)}"), self._width))
        if len(self._status["members"]) > 1:
            lines.append(_cut(Text(self._cell(("daemons", self._members()), width)), self._width))
        return lines

    def _cell(self, pair: tuple[str, str], width: int) -> str:
        return f"{_padded(self._word(pair[0]), width)}  {pair[1]}"

    def _provider(self) -> str:
        provider = self._status["provider"]
        state = (
            "out of reach" if provider["degraded_since"] else "fails" if provider["failing"] else "answers"
        )
        rate = f"{provider['rate']:.3g}/s {self._word('of')} {provider['rate_configured']:.3g}/s"
        return f"{self._word(state)}, {rate}"

    def _database(self) -> str:
        store = self._status["store"]
        state = self._word("takes no writes" if store["down_since"] else "takes writes")
        waiting = f"{store['pending']:,} {self._word('rows wait')}"
        return f"{state}, {singular(waiting)}"

    def _leader(self) -> str:
        daemon = self._status["daemon"]
        who = self._word("this daemon" if daemon["role"] == "leading" else "another daemon")
        return f"{who}, {self._word('up')} {self._span(daemon['started_at'])}"

    def _members(self) -> str:
        """Return the daemons on the database, with their last sign of life."""
        return ", ".join(
            f"{member['name']} {self._word(member['role'])} {self._seen(member['seen_at'])}"
            for member in self._status["members"]
        )

    def _seen(self, moment: str) -> str:
        span = self._span(moment)
        return f"{span}前" if self._language is Language.ZH else f"seen {span} ago"

    def _brake(self) -> str:
        shown = [
            f"{pool['pool_key']} {pool['brake']['used']}/{pool['brake']['cap']}"
            for pool in self._status["pools"]
            if pool["brake"]["engaged_since"] or pool["brake"]["ordered"]
        ]
        return ", ".join(shown) or self._word("open")

    def _pauses(self) -> str:
        paused = [order["pool_key"] for order in self._status["orders"] if order["kind"] == "pause"]
        return ", ".join(pool_key or self._word("all pools") for pool_key in paused) or self._word("none")

    def _budget(self) -> str:
        table = self._status["table"]
        oldest, limit = (duration(table[name], self._language) for name in ("oldest_age", "age_limit"))
        return f"{self._word('oldest')} {oldest} {self._word('of')} {limit}"

    def _source(self) -> str:
        source = self._status["source"]
        if not source["configured"]:
            return self._word("none")
        if source["error"]:
            return self._word("fails")
        return self._word("removals refused" if source["removals_refused"] else "in step")

    def _pools(self, room: int | None) -> list[Text]:
        """Return the pools that fit into `room` lines, those with most bindings in trouble first."""
        pools = sorted(self._status["pools"], key=_trouble)
        if not pools or (room is not None and room < 2):
            return []
        most = len(pools) if room is None else room - 1
        names = [self._word("pool"), *(pool["pool_key"] for pool in pools[:most])]
        width = max(map(cell_len, names))
        head = "  ".join(_right(self._word(name), 10) for name in _POOL_COLUMNS)
        lines = [_cut(Text(f"{_padded(names[0], width)}{head}", style="bold"), self._width)]
        for pool in pools[:most]:
            counts = [pool["bindings"], *(pool["states"].get(name, 0) for name in _POOL_COLUMNS[1:])]
            cells = "  ".join(_right(f"{count:,}", 10) for count in counts)
            lines.append(_cut(Text(f"{_padded(pool['pool_key'], width)}{cells}"), self._width))
        return lines


def _trouble(pool: Mapping[str, Any]) -> tuple[float, str]:
    states = pool["states"]
    troubled = sum(states.get(state, 0) for state in ("temporary", "fallback", "blocked"))
    return -troubled / max(1, pool["bindings"]), pool["pool_key"]


def _seconds(moment: str) -> float:
    return datetime.fromisoformat(moment).timestamp()


def _folded(text: str, width: int) -> list[str]:
    """Return a text in parts of at most `width` columns. Chinese has no spaces to wrap at, but its commands have."""
    parts, line = [], ""
    for word in _words(text):
        if line and cell_len(line + word.rstrip()) > width:
            parts.append(line.rstrip())
            line = word.lstrip()
        else:
            line += word
        while cell_len(line.rstrip()) > width:  # only a run of ASCII is that long
            parts.append(line[:width])
            line = line[width:]
    return [*parts, line.rstrip()]


def _words(text: str) -> list[str]:
    """Return a text in pieces that must not be broken: runs of ASCII, and single wide characters."""
    words: list[str] = []
    for character in text:
        whole = words and character.isascii() and words[-1].isascii() and not words[-1].endswith(" ")
        if whole:
            words[-1] += character
        else:
            words.append(character)
    return words


def _padded(text: str, width: int, *, cut: bool = False) -> str:
    if cut and cell_len(text) > width:
        return _cut(Text(text), width).plain
    return text + " " * max(0, width - cell_len(text))


def _right(text: str, width: int) -> str:
    return " " * max(0, width - cell_len(text)) + text


def _cut(line: Text, width: int | None) -> Text:
    if width is not None:
        line.truncate(width, overflow="ellipsis")
    line.rstrip()
    return line
