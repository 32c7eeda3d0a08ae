"""Curves in a terminal: each cell of text holds two by four dots of Braille, or one sign where there is no Unicode."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter

from rich.text import Text

_DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))
"""The bits of the dots of a Braille cell, by row and column."""
_BRAILLE = 0x2800
_NARROWEST = 10
"""Cells that the curves take at the least; with less room, they have no labels."""


@dataclass(frozen=True, slots=True)
class Curve:
    """Points (time, value) with times from 0 upwards and values that are not negative.

    The label stands where the curve ends. `sign` draws it where there is no Unicode.
    """

    label: str
    style: str
    sign: str
    points: Sequence[tuple[float, float]]


class _Canvas:
    """Dots on a grid of cells. `across` and `down` are the dots of a cell."""

    def __init__(self, width: int, height: int, *, unicode: bool) -> None:
        self._unicode = unicode
        self._across, self._down = (2, 4) if unicode else (1, 1)
        self._cells = [[(0, "", " ")] * width for _ in range(height)]
        self.width, self.height = width * self._across, height * self._down

    def draw(self, curve: Curve, end: float, top: float) -> int:
        """Draw a curve on the scale 0 to `end`, 0 to `top`. Return the row of cells in which it ends."""
        before = None
        row = self.height - 1
        for column in range(self.width):
            value = _at(curve.points, end * column / max(1, self.width - 1))
            row = self.height - 1 - round(value / top * (self.height - 1))
            for between in range(min(row, before or row), max(row, before or row) + 1):
                self._dot(column, between, curve)
            before = row
        return row // self._down

    def line(self, row: int) -> Text:
        text = Text()
        for style, cells in groupby(self._cells[row], key=itemgetter(1)):
            text.append("".join(map(self._sign, cells)), style=style)
        return text

    def _sign(self, cell: tuple[int, str, str]) -> str:
        bits, _, sign = cell
        return sign if not bits or not self._unicode else chr(_BRAILLE + bits)

    def _dot(self, column: int, row: int, curve: Curve) -> None:
        cells = self._cells[row // self._down]
        bits, style, sign = cells[column // self._across]
        bit = _DOTS[row % self._down][column % self._across]
        cells[column // self._across] = (
            bits | bit,
            style or curve.style,
            curve.sign if sign == " " else sign,
        )


def curves(found: Sequence[Curve], width: int, height: int, *, unicode: bool) -> list[Text]:
    """Return `height` lines of at most `width` cells: a scale, the curves, and their labels at their ends."""
    top = max((value for curve in found for _, value in curve.points), default=0.0) or 1.0
    end = max((curve.points[-1][0] for curve in found if curve.points), default=0.0) or 1.0
    scale, labels = len(f"{top:.0f}"), max(len(curve.label) for curve in found)
    plotted = width - scale - labels - len(" | ") - 1
    if plotted < _NARROWEST:
        labels, plotted = 0, width - scale - len(" | ")
    canvas = _Canvas(max(1, plotted), height, unicode=unicode)
    ends = [canvas.draw(curve, end, top) for curve in found]
    at = _apart(ends, height) if labels else {}
    lines = []
    for row in range(height):
        number = f"{top:.0f}" if not row else "0" if row == height - 1 else ""
        line = Text(f"{number:>{scale}} {'│' if unicode else '|'} ") + canvas.line(row)
        if row in at:
            line.append(f" {found[at[row]].label}", style=found[at[row]].style)
        line.rstrip()
        lines.append(line)
    return lines


def _at(points: Sequence[tuple[float, float]], time: float) -> float:
    """Return the value at a time, between two points on the straight line through them."""
    before = (0.0, 0.0)
    for point in points:
        if point[0] >= time:
            span = point[0] - before[0]
            return before[1] + (point[1] - before[1]) * ((time - before[0]) / span if span else 1.0)
        before = point
    return before[1]


def _apart(rows: Sequence[int], height: int) -> dict[int, int]:
    """Return which label stands in which row: in its own, or in the nearest one that is free."""
    taken: dict[int, int] = {}
    for place, row in enumerate(rows):
        free = sorted((abs(one - row), one) for one in range(height) if one not in taken)
        if free:
            taken[free[0][1]] = place
    return taken
