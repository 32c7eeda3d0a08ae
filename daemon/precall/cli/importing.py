"""Bindings from a file into a daemon: read line by line, checked here first, sent in batches that stand or fall whole.

A batch with a refused line is not stored; those before and after it are. Every line ends as stored (created, updated,
unchanged), as refused with its line and column, or as left out with its batch: none is lost silently. Running an
import again changes nothing that is stored already, so that is how an interrupted one goes on.

What is right in a binding is decided by the API's own models, so that both sides say the same.
"""

import csv
import difflib
import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TextIO

from pydantic import ValidationError

from precall.api.bodies import MAX_BATCH, MAX_BATCH_BODY, ListedBinding
from precall.api.problems import Code, mistakes
from precall.cli.remote import Session, answered
from precall.core.errors import Refusal

LABEL = "label."
COLUMNS = tuple(ListedBinding.model_fields)
REQUIRED = ("subs_id", "pool_key", "number_x", "number_a")
BATCH_BYTES = MAX_BATCH_BODY // 3
"""Of the file's own text: as JSON it may take more."""
_PLACE = re.compile(r"bindings\[\d+\]\.?")


class Form(StrEnum):
    """What the file holds."""

    CSV = "csv"
    JSONL = "jsonl"


@dataclass(frozen=True, slots=True)
class Mistake:
    """One refused line. `column` is "" for the whole line; the text never repeats what stood there."""

    line: int
    column: str
    text: str

    def __str__(self) -> str:
        place = f"line {self.line}, {self.column}" if self.column else f"line {self.line}"
        return f"{place}: {self.text}"


@dataclass(frozen=True, slots=True)
class Line:
    """A binding as it is sent, and where it stood."""

    number: int
    binding: dict[str, object]
    size: int


@dataclass(slots=True)
class Batch:
    """Consecutive lines that are stored together or not at all."""

    first: int = 0
    last: int = 0
    lines: list[Line] = field(default_factory=list)
    mistakes: list[Mistake] = field(default_factory=list)
    size: int = 0

    def __len__(self) -> int:
        return len(self.lines) + len(self.mistakes)

    def add(self, item: Line | Mistake) -> None:
        number = item.line if isinstance(item, Mistake) else item.number
        self.first, self.last = self.first or number, number
        if isinstance(item, Mistake):
            self.mistakes.append(item)
        else:
            self.lines.append(item)
            self.size += item.size


@dataclass(slots=True)
class Outcome:
    """What became of the lines. `refused` are the batches that were not stored; `at_line` is the first line whose
    fate is not known, should the import end now."""

    stored: Counter[str] = field(default_factory=Counter)
    refused: list[Batch] = field(default_factory=list)
    at_line: int = 1


def send(
    session: Session, items: Iterable[Line | Mistake], outcome: Outcome, told: Callable[[int], None]
) -> None:
    """Store everything, batch by batch, and write down in `outcome` what became of it. `told` is called with the
    lines done after each batch.

    Raises OutOfReach when the daemon does not answer, Refusal when it refuses more than a batch (a token that may
    not write): `outcome.at_line` is then the first line whose fate is not known.
    """
    done = 0
    for batch in batches(items):
        outcome.at_line = batch.first
        _store(session, batch, outcome)
        outcome.at_line = batch.last + 1
        done += len(batch)
        told(done)


def _store(session: Session, batch: Batch, outcome: Outcome) -> None:
    if batch.mistakes:
        outcome.refused.append(batch)
        return
    body = {"bindings": [line.binding for line in batch.lines]}
    status, content = session.request("POST", "/v1/bindings/batch", params={"atomic": "true"}, body=body)
    if status == 422 and isinstance(content, dict) and content.get("code") == Code.BATCH_REFUSED:
        for line, result in zip(batch.lines, content["results"], strict=True):
            if result["error"]:
                place, _, text = _PLACE.sub("", result["error"]).partition(": ")
                batch.mistakes.append(Mistake(line.number, place, text))
        refused = {mistake.line for mistake in batch.mistakes}
        batch.lines = [line for line in batch.lines if line.number not in refused]
        outcome.refused.append(batch)
        return
    for result in answered(status, content)["results"]:
        outcome.stored[result["result"]] += 1


def batches(items: Iterable[Line | Mistake]) -> Iterator[Batch]:
    """The lines in batches that the API takes."""
    batch = Batch()
    for item in items:
        batch.add(item)
        if len(batch) >= MAX_BATCH or batch.size >= BATCH_BYTES:
            yield batch
            batch = Batch()
    if len(batch):
        yield batch


def lines(source: TextIO, form: Form) -> Iterator[Line | Mistake]:
    """Every line as a binding that the API will understand, or as a mistake.

    Raises Refusal when a CSV file's header cannot be used.
    """
    match form:
        case Form.CSV:
            return _csv_lines(source)
        case Form.JSONL:
            return _json_lines(source)


def _csv_lines(source: TextIO) -> Iterator[Line | Mistake]:
    """Cells of `label.KEY` columns are labels, one of `labels` is a JSON object of them; an empty cell is none."""
    reader = csv.reader(source, strict=True)
    header = _header(reader)
    while True:
        number = reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            # Where the next row begins can no longer be told.
            yield Mistake(number, "", f"is no CSV ({error}); nothing after it was read")
            return
        if not cells:
            continue
        if len(cells) != len(header):
            yield Mistake(number, "", f"has {len(cells)} cells, the header has {len(header)}")
            continue
        yield _from_cells(number, dict(zip(header, cells, strict=True)))


def _header(reader: Iterator[list[str]]) -> list[str]:
    try:
        header = [name.strip() for name in next(reader, [])]
    except csv.Error as error:
        raise Refusal(422, "bad_header", f"line 1: is no CSV ({error})") from None
    for place, name in enumerate(header, 1):
        if name in COLUMNS or (name.startswith(LABEL) and name != LABEL):
            continue
        near = difflib.get_close_matches(name, COLUMNS, n=1)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(COLUMNS)} and label.KEY"
        # A file without a header has numbers there, which are not to be repeated.
        shown = repr(name[:64]) if re.fullmatch(r"[^0-9]*", name) else str(place)
        raise Refusal(422, "bad_header", f"line 1 must name the columns: column {shown} is not known; {hint}")
    if missing := [name for name in REQUIRED if name not in header]:
        raise Refusal(422, "bad_header", f"line 1: the header lacks {', '.join(missing)}")
    if len(set(header)) != len(header):
        raise Refusal(422, "bad_header", "line 1: a column is named twice")
    return header


def _from_cells(number: int, cells: dict[str, str]) -> Line | Mistake:
    binding: dict[str, object] = {
        name: cell for name, cell in cells.items() if not name.startswith("label") and cell
    }
    labels = {
        name.removeprefix(LABEL): cell for name, cell in cells.items() if name.startswith(LABEL) and cell
    }
    if packed := cells.get("labels"):
        try:
            unpacked = json.loads(packed)
        except ValueError:
            return Mistake(number, "labels", 'is no JSON object, such as {"city":"Hangzhou"}')
        if not isinstance(unpacked, dict):
            return Mistake(number, "labels", 'is no JSON object, such as {"city":"Hangzhou"}')
        labels = unpacked | labels
    if labels:
        binding["labels"] = labels
    return checked(number, binding, sum(map(len, cells.values())))


def _json_lines(source: TextIO) -> Iterator[Line | Mistake]:
    for number, text in enumerate(source, 1):
        if not text.strip():
            continue
        try:
            binding = json.loads(text)
        except json.JSONDecodeError as error:
            yield Mistake(number, f"column {error.colno}", f"is no JSON: {error.msg}")
            continue
        except RecursionError:
            yield Mistake(number, "", "is nested too deep")
            continue
        if isinstance(binding, dict):
            yield checked(number, binding, len(text))
        else:
            yield Mistake(number, "", "is no JSON object")


def checked(number: int, binding: dict[str, object], size: int) -> Line | Mistake:
    """The line if the API's own model takes it, else the first thing wrong with it."""
    try:
        ListedBinding.model_validate(binding)
    except ValidationError as error:
        first = mistakes(error)[0]
        return Mistake(number, first.field, first.detail)
    return Line(number, binding, size)
