"""Where the data of a command goes: to standard output, or to a file that appears once it is complete."""

import codecs
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, BinaryIO, TextIO, cast

import typer

from precall import private_files

OutputFile = Annotated[
    Path | None,
    typer.Option(
        "--output",
        "-o",
        metavar="FILE",
        help="Written as a whole, readable by you alone. Default: stdout.",
    ),
]


@contextmanager
def writing(file: Path | None) -> Iterator[BinaryIO]:
    """Yield a binary file that only its owner may read, or standard output for None and "-".

    Raises OutputError if it cannot be written. Usage error for a path that cannot be a file.
    """
    if file is None or file == Path("-"):
        yield cast("BinaryIO", sys.stdout.buffer)
        sys.stdout.flush()
        return
    if file.is_dir() or not file.parent.is_dir():
        wrong = "is a directory" if file.is_dir() else f"the directory {file.parent} does not exist"
        raise typer.BadParameter(f"{file} cannot be written: {wrong}")
    with private_files.replacing(file) as out:
        yield out


@contextmanager
def writing_text(file: Path | None) -> Iterator[TextIO]:
    """Yield what `writing` yields as a text file in UTF-8, whatever the terminal can show: it is data."""
    with writing(file) as out:
        yield cast("TextIO", codecs.getwriter("utf-8")(out))
