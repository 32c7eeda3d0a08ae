"""Registrations: bindings import, export, add, remove, show, list. Thin clients of a running daemon."""

import os
import stat
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, BinaryIO

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    SpinnerColumn,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
)

from precall.cli import output
from precall.cli.binding_export import downloaded, write_csv, write_jsonl
from precall.cli.binding_import import ImportOutcome, ImportRules, send
from precall.cli.binding_rows import COLUMNS, EMPTY, BindingRows, FileFormat, RowError, text_of
from precall.cli.files import OutputFile, writing_text
from precall.cli.listings import Listing, ListingView, lists
from precall.cli.options import Json, SubsId, label_filter
from precall.cli.options import label as label_of
from precall.cli.paged import show_pages
from precall.cli.rejects import write_rejects
from precall.cli.session import Session, ask, path
from precall.cli.target import Target, asks
from precall.core.errors import OutOfReach, Refusal

app = typer.Typer(no_args_is_help=True, help="Import, export, add, remove and show bindings.")

SHOWN_MISTAKES = 5
_FORMS = {
    ".csv": FileFormat.CSV,
    ".jsonl": FileFormat.JSONL,
    ".ndjson": FileFormat.JSONL,
    ".json": FileFormat.JSONL,
}


def _cell(binding: Mapping[str, Any], name: str) -> object:
    """Return a value for a table: labels are shown as KEY=VALUE."""
    value = binding[name]
    return ", ".join(f"{key}={text}" for key, text in value.items()) if isinstance(value, dict) else value


BINDINGS = Listing("bindings", COLUMNS, COLUMNS, _cell)

FormatOption = Annotated[
    FileFormat | None, typer.Option("--format", help="Default: by the file extension, else jsonl.")
]
PoolFilter = Annotated[str, typer.Option("--pool-key", metavar="POOL", help="Only bindings of this pool.")]
LabelFilter = Annotated[
    str, typer.Option("--label", metavar="KEY=VALUE", help="Only bindings with this label.")
]


@app.command("import")
@asks
def import_(
    file: Annotated[
        str,
        typer.Argument(metavar="FILE", help="CSV with a header, JSON Lines or a JSON array; - for stdin."),
    ],
    *,
    form: Annotated[
        FileFormat | None, typer.Option("--format", help="Default: by the content of the file.")
    ] = None,
    skip_expired: Annotated[
        bool, typer.Option("--skip-expired", help="Leave out expired bindings; they do not count as refused.")
    ] = False,
    keep_going: Annotated[
        bool,
        typer.Option(
            "--keep-going",
            help="Store the other rows of a batch; refused ones go to FILE.rejected.csv or .jsonl.",
        ),
    ] = False,
    rejects: Annotated[
        Path | None,
        typer.Option("--rejects", metavar="FILE", help="Where refused rows go; implies --keep-going."),
    ] = None,
    progress: Annotated[
        bool | None,
        typer.Option("--progress/--no-progress", help="A bar on stderr. Default: if it is a terminal."),
    ] = None,
    daemon: Target,
    as_json: Json = False,
) -> None:
    """Register many bindings from a file.

    Each batch of 5,000 is stored as a whole or not at all. Importing a file again changes nothing. Exit 1: some
    bindings were refused.
    """
    keep_going = keep_going or rejects is not None
    if keep_going and rejects is None and not Path(file).is_file():
        raise typer.BadParameter(
            f"--keep-going with {file}: name the file for refused rows with --rejects FILE"
        )
    rules = ImportRules(keep_going, time.time if skip_expired else None)
    shows_bar = sys.stderr.isatty() if progress is None else progress
    outcome = ImportOutcome()
    with _opened(file) as raw:
        with _read_errors(file):
            rows = _rows(raw, file, form)
        kept = rejects or Path(f"{file}.rejected.{rows.form}")
        try:
            with _read_errors(file), _bar(raw, wanted=shows_bar) as moved, Session(daemon) as session:
                send(session, rows, outcome, moved, rules)
        except BaseException as error:
            _report(outcome, None, as_json=as_json)
            _stop(outcome.at_line, error)
            raise
        finally:
            if outcome.rejected:
                write_rejects(kept, rows.form, rows.header, outcome.rejected)
    _report(outcome, kept, as_json=as_json)
    if outcome.refused or outcome.rejected:
        raise typer.Exit(1)


def _rows(raw: BinaryIO, file: str, form: FileFormat | None) -> BindingRows:
    try:
        return BindingRows(text_of(raw, file), form, _FORMS.get(Path(file).suffix.lower()))
    except Refusal as error:
        if error.code != EMPTY:
            raise
        raise typer.BadParameter(f"{file} is empty, and nothing says what it should hold") from None


def _stop(line: int, error: BaseException) -> None:
    """Print where an import stopped. Raises errors of one line again, with that place in their text."""
    where, goes_on = f"stopped at line {line}", "the same import continues from there"
    match error:
        case OutOfReach():
            raise OutOfReach(f"{where}: {error}; {goes_on}") from None
        case Refusal():
            raise Refusal(error.status, error.code, f"{where}: {error}; {goes_on}", error.field) from None
        case KeyboardInterrupt():
            output.say(f"interrupted at line {line}; {goes_on}")
        case _:
            output.say(f"{where}; {goes_on}")


@app.command("export")
@asks
def export(
    *,
    form: FormatOption = None,
    file: OutputFile = None,
    masked: Annotated[
        bool, typer.Option("--masked", help="Mask A and B: needs no scope admin, and cannot be imported.")
    ] = False,
    pool_key: PoolFilter = "",
    label: LabelFilter = "",
    daemon: Target,
) -> None:
    """Export all bindings with their real numbers.

    As JSON Lines or CSV. Needs scope admin, and every binding is audited.
    """
    chosen = form or (
        _form_of(file) if file and file != Path("-") and not _is_special(file) else FileFormat.JSONL
    )
    with writing_text(file) as out, downloaded(daemon, _filter(pool_key, label), masked=masked) as bindings:
        count = write_csv(bindings, out) if chosen is FileFormat.CSV else write_jsonl(bindings(), out)
    if file is not None and file != Path("-"):
        output.say(f"{output.counted(count, 'binding')} to {file}")


@app.command("add")
@asks
def add(
    subs_id: SubsId,
    *,
    pool_key: Annotated[str, typer.Option(metavar="POOL", help="The number pool of the binding.")],
    number_x: Annotated[str, typer.Option(metavar="NUMBER", help="The privacy number.")],
    number_a: Annotated[str, typer.Option(metavar="NUMBER", help="Party A.")],
    number_b: Annotated[str, typer.Option(metavar="NUMBER", help="Party B; none for AXN and AXG.")] = "",
    extension: Annotated[str, typer.Option(metavar="DIGITS", help="Dialled after X.")] = "",
    expires_at: Annotated[str, typer.Option(metavar="TIME", help="RFC 3339 with a zone.")] = "",
    label: Annotated[
        list[str] | None, typer.Option(metavar="KEY=VALUE", help="A label; may be repeated.")
    ] = None,
    daemon: Target,
    as_json: Json = False,
) -> None:
    """Register a binding, or update it.

    The console shows the pool key under 号码池管理 (number pools), and the SubsId under 号码管理 > 号码详情 (numbers >
    details). BindAxb and its siblings return the SubsId too.
    """
    body: dict[str, Any] = {
        "pool_key": pool_key,
        "number_x": number_x,
        "number_a": number_a,
        "number_b": number_b,
        "extension": extension,
        "labels": dict(label_of(given) for given in label or ()),
    }
    if expires_at:
        body["expires_at"] = expires_at
    _show(ask(daemon, "PUT", path("bindings", subs_id), body=body), as_json=as_json)


@app.command("remove")
@asks
def remove(subs_id: SubsId, *, daemon: Target) -> None:
    """Remove a binding.

    Exit 1: the binding is unknown.
    """
    ask(daemon, "DELETE", path("bindings", subs_id))
    typer.echo(f"{subs_id}: removed")


@app.command("show")
@asks
def show(subs_id: SubsId, *, daemon: Target, as_json: Json = False) -> None:
    """Show a binding as it was registered.

    Exit 1: the binding is unknown.
    """
    _show(ask(daemon, "GET", path("bindings", subs_id)), as_json=as_json)


@app.command("list")
@asks
@lists(BINDINGS)
def list_(
    *,
    pool_key: PoolFilter = "",
    label: LabelFilter = "",
    limit: Annotated[int, typer.Option(min=1, help="How many to list.")] = 100,
    daemon: Target,
    view: ListingView,
) -> None:
    """List bindings in the order of their ids."""
    show_pages(daemon, _filter(pool_key, label), limit=limit, view=view, which="first")


def _filter(pool_key: str, label: str) -> dict[str, str]:
    found = label_filter(label) if label else ""
    return {name: given for name, given in (("pool_key", pool_key), ("label", found)) if given}


def _is_special(file: Path) -> bool:
    """Whether the file exists and is a device or a pipe, whose name says nothing about its format."""
    return file.exists() and not file.is_file()


def _form_of(file: Path) -> FileFormat:
    form = _FORMS.get(file.suffix.lower())
    if form is None:
        raise typer.BadParameter(f"the format of {file} is not known: give --format csv or --format jsonl")
    return form


def _opened(file: str) -> BinaryIO:
    with _read_errors(file):
        return sys.stdin.buffer if file == "-" else Path(file).open("rb")


@contextmanager
def _read_errors(file: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        called = "standard input" if file == "-" else file
        raise typer.BadParameter(f"{called} cannot be read: {error.strerror}") from None


def _size(raw: BinaryIO) -> int:
    """Return the size of a file in bytes, 0 for a pipe."""
    found = os.fstat(raw.fileno())
    return found.st_size if stat.S_ISREG(found.st_mode) else 0


@contextmanager
def _bar(raw: BinaryIO, *, wanted: bool) -> Iterator[Callable[[int], None]]:
    """Yield a function of the lines done, which moves the bar. It only counts where the input has no size."""
    size = _size(raw)
    measure = (BarColumn(), TaskProgressColumn()) if size else (SpinnerColumn(),)
    columns = (
        TextColumn("importing"),
        *measure,
        TextColumn("{task.fields[lines]:,} lines"),
        TimeElapsedColumn(),
    )
    console = Console(stderr=True, force_terminal=True if wanted else None)
    with Progress(*columns, console=console, disable=not wanted) as progress:
        task = progress.add_task("", total=size or None, lines=0)
        yield lambda done: progress.update(task, completed=raw.tell() if size else 0, lines=done)


def _report(outcome: ImportOutcome, rejects: Path | None, *, as_json: bool) -> None:
    counts = {name: outcome.stored[name] for name in ("created", "updated", "unchanged")}
    left_out = sum(len(batch.lines) for batch in outcome.refused)
    refused = [mistake for batch in outcome.refused for mistake in batch.mistakes]
    if as_json:
        lines = [{"line": m.line, "column": m.column, "error": m.text} for m in (*refused, *outcome.rejected)]
        output.data(
            counts
            | {
                "refused": lines,
                "not_stored": left_out + len(lines),
                "batches_not_stored": [{"first_line": b.first, "last_line": b.last} for b in outcome.refused],
                "ended": outcome.ended,
                "rejects": str(rejects) if rejects and outcome.rejected else "",
            }
        )
        return
    for batch in outcome.refused:
        output.say(f"not stored: lines {batch.first} to {batch.last}, because of")
        _say_mistakes(batch.mistakes)
    _say_mistakes(outcome.rejected)
    line = ", ".join(f"{count:,} {name}" for name, count in counts.items())
    if outcome.ended:
        line += f"; {outcome.ended:,} expired, left out"
    if outcome.rejected:
        line += f"; {len(outcome.rejected):,} refused" + (f": they are in {rejects}" if rejects else "")
    if refused:
        line += f"; {len(refused):,} refused and {left_out:,} left out with them: correct those lines and import again"
    typer.echo(line)


def _say_mistakes(found: Sequence[RowError]) -> None:
    for mistake in found[:SHOWN_MISTAKES]:
        output.say(f"  {mistake}")
    if len(found) > SHOWN_MISTAKES:
        output.say(f"  and {len(found) - SHOWN_MISTAKES} more lines")


def _show(binding: Any, *, as_json: bool) -> None:
    if as_json:
        output.data(binding)
    else:
        output.facts(binding)
