"""All bindings of a running daemon as JSON Lines or CSV."""

import csv
import io
import json
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TextIO
from urllib.parse import urlencode

from precall.cli.binding_rows import COLUMNS, LABEL
from precall.cli.paged import pages
from precall.cli.session import Session
from precall.cli.target import Target
from precall.private_files import Output

Bindings = Callable[[], Iterator[dict[str, Any]]]
"""Reads all bindings of a download from its beginning."""


@contextmanager
def downloaded(daemon: Target, wanted: Mapping[str, str], *, masked: bool) -> Iterator[Bindings]:
    """Fetch all bindings into a temporary file, which no name leads to and which ends with the context."""
    with tempfile.TemporaryFile() as lines:
        spool = Output(lines.fileno(), f"a temporary file in {tempfile.gettempdir()}", closefd=False)
        with Session(daemon) as session, io.BufferedWriter(spool) as out:
            if masked:
                out.writelines(
                    f"{json.dumps(binding)}\n".encode() for binding in pages(session, "bindings", wanted)
                )
            else:
                session.download(f"/v1/bindings/export?{urlencode(wanted)}", out.write)

        def read() -> Iterator[dict[str, Any]]:
            lines.seek(0)
            yield from map(json.loads, lines)

        yield read


def write_jsonl(bindings: Iterable[Mapping[str, Any]], out: TextIO) -> int:
    """Write one JSON object per line. Return how many."""
    count = 0
    for binding in bindings:
        out.write(json.dumps(binding, ensure_ascii=False) + "\n")
        count += 1
    return count


def write_csv(bindings: Bindings, out: TextIO) -> int:
    """Write a header and one row per binding, with a column `label.KEY` for each label. Return how many bindings.

    A label that a cell cannot hold (no text, or padding) goes into a column `labels`, as JSON: an import reads both.
    """
    keys, packs = set[str](), False
    for binding in bindings():
        fitting = {key for key, value in binding["labels"].items() if _fits_a_cell(key, value)}
        keys |= fitting
        packs = packs or len(fitting) < len(binding["labels"])
    plain, labels = [name for name in COLUMNS if name != "labels"], sorted(keys)
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([*plain, *(LABEL + key for key in labels), *(["labels"] if packs else [])])
    count = 0
    for binding in bindings():
        rest = dict(binding["labels"])
        cells = [rest.pop(key) if _fits_a_cell(key, rest.get(key, "")) else "" for key in labels]
        packed = [json.dumps(rest, ensure_ascii=False) if rest else ""] if packs else []
        writer.writerow([*(binding[name] for name in plain), *cells, *packed])
        count += 1
    return count


def _fits_a_cell(key: str, value: str) -> bool:
    """Whether an import would read the same label back: it takes an empty cell for none, and strips padding."""
    return value != "" and value == value.strip() and key == key.rstrip()
