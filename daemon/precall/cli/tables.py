"""Tables of text that fit a terminal: free text is cut between words, and columns without room are left out."""

import os
import re
import sys
from collections.abc import Sequence

from rich.cells import cell_len
from rich.console import Console

GAP = 2
READABLE = 12
"""Cells that a column of free text keeps at the least."""
_TOKEN = re.compile(r"[\u2e80-\U0003ffff]|[^\s\u2e80-\U0003ffff]+|\s+")
"""A word or the space between two words. Chinese may be cut after every character."""


def room() -> int | None:
    """Return how wide a table may be: as the terminal or, in a pipe, as COLUMNS says. None: of any width."""
    if sys.stdout.isatty():
        return Console().width
    columns = os.environ.get("COLUMNS", "")
    return int(columns) if columns.isdecimal() and int(columns) else None


def fitted(lines: Sequence[Sequence[str]], width: int) -> list[list[str]]:
    """Return rows, the header first, that take no more than `width` cells if words can be kept whole.

    Columns that remain too many are left out, the last ones first.
    """
    columns = [list(column) for column in zip(*lines, strict=True)]
    least = [max(map(_least, column)) for column in columns]
    while len(least) > 1 and _total(least) > width:
        least.pop()
    del columns[len(least) :]
    widths = [max(map(cell_len, column)) for column in columns]
    while _total(widths) > width and widths != least:
        widest = max(range(len(widths)), key=lambda place: (widths[place] > least[place], widths[place]))
        widths[widest] -= 1
    cut_columns = (
        [_cut(cell, most) for cell in column] for column, most in zip(columns, widths, strict=True)
    )
    return [list(row) for row in zip(*cut_columns, strict=True)]


def _total(widths: Sequence[int]) -> int:
    return sum(widths) + GAP * (len(widths) - 1)


def _least(cell: str) -> int:
    """Return how narrow a cell may get without a cut inside a word."""
    first = _TOKEN.match(cell)
    return min(cell_len(cell), max(READABLE, cell_len(first[0]) + 1 if first else 0))


def _cut(cell: str, width: int) -> str:
    """Return a cell with as many whole words as fit."""
    if cell_len(cell) <= width:
        return cell
    kept = ""
    for token in _TOKEN.findall(cell):
        if cell_len(kept + token) >= width:
            break
        kept += token
    return f"{kept.rstrip()}…"
