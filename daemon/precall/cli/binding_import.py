"""Imports bindings into a running daemon: validates them line by line and sends batches, each stored as a whole.

A batch with a refused line is not stored, while the others are. Every line ends as stored (created, updated or
unchanged), as refused with its line and column, or as left out with its batch. None is lost silently. Importing a file
again changes nothing.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from math import inf

from precall.api.problems import Code
from precall.api.requests import MAX_BATCH_BODY
from precall.api.schemas.bindings import MAX_BATCH
from precall.api.schemas.fields import seconds
from precall.cli.binding_rows import BindingRow, RowError
from precall.cli.client import HttpAnswer
from precall.cli.session import Session, answered

BATCH_BYTES = MAX_BATCH_BODY // 3
"""Size of a batch in bytes of the file. As JSON it may take more."""
_PLACE = re.compile(r"bindings\[\d+\]\.?")


@dataclass(slots=True)
class ImportChunk:
    """Consecutive lines that are stored together or not at all."""

    first: int = 0
    last: int = 0
    lines: list[BindingRow] = field(default_factory=list)
    mistakes: list[RowError] = field(default_factory=list)
    size: int = 0

    def __len__(self) -> int:
        return len(self.lines) + len(self.mistakes)

    def add(self, item: BindingRow | RowError) -> None:
        number = item.line if isinstance(item, RowError) else item.number
        self.first, self.last = self.first or number, number
        if isinstance(item, RowError):
            self.mistakes.append(item)
        else:
            self.lines.append(item)
            self.size += item.size


@dataclass(slots=True)
class ImportOutcome:
    """The results of an import.

    `refused` are batches that were not stored, `rejected` lines left out of stored batches. `ended` counts expired
    bindings that were left out. `at_line` is the first line whose result is not known yet.
    """

    stored: Counter[str] = field(default_factory=Counter)
    refused: list[ImportChunk] = field(default_factory=list)
    rejected: list[RowError] = field(default_factory=list)
    ended: int = 0
    at_line: int = 1


@dataclass(frozen=True, slots=True)
class ImportRules:
    """What to do with lines that cannot be stored.

    With `keep_going` they are left out of their batch, and the rest of it is stored. With a `clock` in Unix seconds,
    expired bindings are left out rather than refused.
    """

    keep_going: bool = False
    clock: Callable[[], float] | None = None


def send(
    session: Session,
    items: Iterable[BindingRow | RowError],
    outcome: ImportOutcome,
    progress: Callable[[int], None],
    rules: ImportRules = ImportRules(),
) -> None:
    """Store all lines, batch by batch, and record the results in `outcome`.

    `progress` is called after each batch with the number of lines done. Raises OutOfReach if the daemon does not
    answer, and Refusal if it refuses more than a batch, for instance the token. `outcome.at_line` then says how far it
    got.
    """
    done = 0
    for batch in batches(items):
        outcome.at_line = batch.first
        done += len(batch)
        _store(session, batch, outcome, rules)
        outcome.at_line = batch.last + 1
        progress(done)


def _store(session: Session, batch: ImportChunk, outcome: ImportOutcome, rules: ImportRules) -> None:
    if rules.clock is not None:
        now = rules.clock()
        _leave_out(batch, outcome, {line.number for line in batch.lines if _ends(line) <= now})
    if not _may_be_sent(batch, outcome, rules):
        return
    while batch.lines:
        body = {"bindings": [line.binding for line in batch.lines]}
        found = session.request("POST", "/v1/bindings/batch", params={"atomic": "true"}, body=body)
        refused = _refused(batch, found)
        if not refused:
            outcome.stored.update(result["result"] for result in answered(found)["results"])
            return
        gone = {m.line for m in refused if m.column == "expires_at"} if rules.clock is not None else set()
        _leave_out(batch, outcome, gone)
        batch.mistakes = [mistake for mistake in refused if mistake.line not in gone]
        numbers = {mistake.line for mistake in refused}
        batch.lines = [line for line in batch.lines if line.number not in numbers]
        if not _may_be_sent(batch, outcome, rules):
            return


def _may_be_sent(batch: ImportChunk, outcome: ImportOutcome, rules: ImportRules) -> bool:
    """Record the mistakes of a batch, and return whether the rest of it is to be stored."""
    if not batch.mistakes:
        return True
    if not rules.keep_going:
        outcome.refused.append(batch)
        return False
    outcome.rejected += batch.mistakes
    batch.mistakes = []
    return True


def _leave_out(batch: ImportChunk, outcome: ImportOutcome, ended: set[int]) -> None:
    outcome.ended += len(ended)
    batch.lines = [line for line in batch.lines if line.number not in ended]


def _ends(line: BindingRow) -> float:
    """Return when a binding ends, in Unix seconds."""
    end = line.binding.get("expires_at")
    return seconds(end) if isinstance(end, str) and end else inf


def _refused(batch: ImportChunk, found: HttpAnswer) -> list[RowError]:
    """Return the lines that made the daemon refuse a batch."""
    content = found.content
    if found.status != 422 or not isinstance(content, dict) or content.get("code") != Code.BATCH_REFUSED:
        return []
    mistakes = []
    for line, result in zip(batch.lines, content["results"], strict=True):
        if result["error"]:
            place, _, text = _PLACE.sub("", result["error"]).partition(": ")
            mistakes.append(RowError(line.number, place, text, line.row))
    return mistakes


def batches(items: Iterable[BindingRow | RowError]) -> Iterator[ImportChunk]:
    """Yield the lines in batches that the API accepts."""
    batch = ImportChunk()
    for item in items:
        batch.add(item)
        if len(batch) >= MAX_BATCH or batch.size >= BATCH_BYTES:
            yield batch
            batch = ImportChunk()
    if len(batch):
        yield batch
