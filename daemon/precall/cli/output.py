"""Output of commands: tables, lists of facts, JSON, and text forms of times and numbers.

Data goes to standard output; progress, warnings and errors go to standard error.
"""

import json
import sys
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import typer
from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.text import Text

from precall.cli import streams
from precall.cli.tables import GAP

STYLES = {
    "dial_x": "green",
    "normal": "green",
    "dial_temp_x": "cyan",
    "temporary": "cyan",
    "dial_real": "magenta",
    "fallback": "magenta",
    "hold": "yellow",
    "blocked": "yellow",
    "unverified": "yellow",
    "expired": "bright_black",
    "connected": "green",
    "pending": "yellow",
    "failed": "bold red",
    "ok": "green",
    "warn": "yellow",
    "fail": "bold red",
}
"""Colours of important words."""
NARROWEST = 20
"""Columns that a wrapped text gets at the least."""


def console() -> Console:
    """Return a console on standard output. It never wraps lines, since programs may read them."""
    return Console(highlight=False, soft_wrap=True)


def say(text: str) -> None:
    """Print a line on standard error."""
    sys.stderr.write(f"{text}\n")


def data(value: object) -> None:
    """Print a JSON document on standard output."""
    # The escapes of JSON are lossless where standard output cannot encode a character.
    typer.echo(json.dumps(value, ensure_ascii=not streams.is_utf8(), indent=2))


def facts(pairs: Mapping[str, object], title: str = "") -> None:
    """Print names and values, one per line. Empty values are shown as a dash."""
    if title:
        console().print(Text(title, style="bold underline"))
    width = max(map(len, pairs), default=0)
    for name, value in pairs.items():
        console().print(Text(name.ljust(width), style="bold") + Text("  ") + _styled(shown(value)))


def rows(columns: Sequence[str], lines: Iterable[Sequence[object]], *, wraps: bool = False) -> None:
    """Print a table without frames. Each row is one line of any length, so that grep and cut can read it.

    With `wraps` the last column is wrapped at words on a terminal.
    """
    cells = [[shown(value) for value in line] for line in lines]
    if wraps and console().is_terminal:
        widths = [max(map(cell_len, column)) for column in zip(columns, *cells, strict=True)]
        left = console().width - sum(widths[:-1]) - GAP * len(widths[:-1])
        cells = [row for line in cells for row in _wrapped(line, left)]
    table(columns, cells)


def table(columns: Sequence[str], cells: Sequence[Sequence[str]]) -> None:
    """Print a table of what `shown` returned."""
    widths = [max(map(cell_len, column)) for column in zip(columns, *cells, strict=True)]
    console().print(_line(columns, widths, "bold"))
    for line in cells:
        console().print(_line(line, widths))


def _wrapped(cells: Sequence[str], width: int) -> list[list[str]]:
    """Return the rows of a line whose last cell takes no more than `width` columns."""
    first, *more = textwrap.wrap(cells[-1], max(width, NARROWEST)) or [""]
    return [[*cells[:-1], first], *([""] * (len(cells) - 1) + [part] for part in more)]


def paragraph(text: str, indent: str = "  ", before: Text | None = None) -> None:
    """Print a text as one line or, on a terminal, wrapped at words with its further lines indented.

    `before` stands at the beginning of the first line.
    """
    out, head = console(), before or Text()
    if out.is_terminal:
        text = textwrap.fill(
            text, max(out.width, NARROWEST), initial_indent=" " * len(head), subsequent_indent=indent
        )[len(head) :]
    out.print(head + Text(text))


def route(value: Mapping[str, Any]) -> None:
    """Print a route of the API."""
    number = str(value["number"])
    if value["extension"]:
        number = f"{number}  extension {value['extension']}"
    asks_again = f"in {value['retry_after']} s" if value["retry_after"] else ""
    age = "never checked" if value["age_ms"] < 0 else f"{value['age_ms'] / 1000:.1f} s ago"
    facts(
        {
            "action": value["action"],
            "number": number,
            "why": f"{value['reason']} (state {value['state']}, status {value['status'] or 'none'})",
            **_would(value),
            "checked": age + (", stale" if value["stale"] else ""),
            "ask again": asks_again,
            "flags": ", ".join(value["flags"]),
            "expires": value["expires_at"],
            "good until": value["good_until"],
            "version": f"{value['version']} (index {value['index']})",
        },
        title=str(value["subs_id"]),
    )


def _would(value: Mapping[str, Any]) -> dict[str, str]:
    """Return what the route of an observed pool would be."""
    would = value.get("would")
    return {"would be": f"{would['action']} ({would['reason']})"} if would else {}


def counted(count: int, what: str) -> str:
    """Return a number of things in words, such as "1 binding" or "2,000 bindings"."""
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def clock_time(at: float) -> str:
    """Return Unix seconds as a time of day in UTC."""
    return datetime.fromtimestamp(at, UTC).strftime("%H:%M:%SZ")


def date_time(at: float) -> str:
    """Return Unix seconds as a date and a time of day in UTC."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%MZ")


def _line(cells: Sequence[str], widths: Sequence[int], style: str = "") -> Text:
    padded = (_styled(set_cell_size(cell, width)) for cell, width in zip(cells, widths, strict=True))
    line = Text(" " * GAP, style=style).join(padded)
    line.rstrip()
    return line


def _styled(word: str) -> Text:
    return Text(word, style=STYLES.get(word.rstrip(), ""))


def shown(value: object) -> str:
    """Return a value as a table shows it: on one line, without control characters."""
    text = _text(value)
    return text if text.isprintable() else "".join(one if one.isprintable() else " " for one in text)


def _text(value: object) -> str:
    match value:
        case None | "":
            return "-"
        case bool():
            return "yes" if value else "no"
        case dict() | list() if not value:
            return "-"
        case list(words) if all(isinstance(word, str) for word in words):
            return ", ".join(words)
        case dict() | list():
            return json.dumps(value, ensure_ascii=False)
        case float():
            return f"{value:.3f}".rstrip("0").rstrip(".")
        case _:
            return str(value)
