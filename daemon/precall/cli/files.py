"""Where a command's data goes: to standard output, or to a file that takes its place when it is complete."""

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
        help="Written whole or not at all, for you alone. Without, or -: stdout.",
    ),
]


@contextmanager
def writing(file: Path | None) -> Iterator[BinaryIO]:
    """Bytes to a file for its owner alone, or to standard output (None, "-").

    Raises Unwritten; usage error for what can be no file.
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
    """As `writing`, text in UTF-8 whatever the terminal can show: it is data, to be read again."""
    with writing(file) as out:
        yield cast("TextIO", codecs.getwriter("utf-8")(out))
