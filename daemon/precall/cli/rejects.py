"""Refused rows of an import, as a file of the same format that can be corrected and imported again."""

import csv
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from precall.cli.binding_rows import ERROR, FileFormat, RowError
from precall.cli.files import writing_text


def write_rejects(file: Path, form: FileFormat, header: Sequence[str], rejected: Sequence[RowError]) -> None:
    """Write each row unchanged, with its error in an additional column, to a file that only its owner may read.

    Raises OutputError.
    """
    with writing_text(file) as out:
        if form is FileFormat.CSV:
            csv.writer(out, lineterminator="\n").writerows(_table(header, rejected))
        else:
            out.writelines(f"{json.dumps(_object(one), ensure_ascii=False)}\n" for one in rejected)


def _table(header: Sequence[str], rejected: Sequence[RowError]) -> Iterator[list[str]]:
    kept = [place for place, name in enumerate(header) if name.lower() != ERROR]
    yield [*(header[place] for place in kept), ERROR]
    for one in rejected:
        cells = list(one.row or [])
        cells += [""] * (len(header) - len(cells))
        yield [*(cells[place] for place in kept), _why(one), *cells[len(header) :]]


def _object(one: RowError) -> dict[str, Any]:
    row = one.row if isinstance(one.row, dict) else {"row": one.row}
    return {name: value for name, value in row.items() if name.lower() != ERROR} | {ERROR: _why(one)}


def _why(one: RowError) -> str:
    return f"{one.column}: {one.text}" if one.column else one.text
