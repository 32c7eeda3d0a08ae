"""Registrations: bindings import, export, add, remove, show, list. Thin clients of a running daemon, but for reading
files, which stands in `rows`, and sending what they hold (`importing`)."""

import csv
import io
import json
import os
import stat
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, BinaryIO, TextIO
from urllib.parse import urlencode

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
from precall.cli.binding_import import ImportOutcome, ImportRules, send
from precall.cli.binding_rows import COLUMNS, EMPTY, BindingRows, FileFormat, RowError, text_of
from precall.cli.files import OutputFile, writing_text
from precall.cli.options import Json, SubsId
from precall.cli.rejects import write_rejects
from precall.cli.session import Session, ask, path, taken
from precall.cli.target import Target, asks
from precall.core.errors import OutOfReach, Refusal
from precall.private_files import Output

app = typer.Typer(no_args_is_help=True, help="Registered bindings: import, export, add, remove, show, list.")

PAGE = 1000
SHOWN_MISTAKES = 5
_FORMS = {
    ".csv": FileFormat.CSV,
    ".jsonl": FileFormat.JSONL,
    ".ndjson": FileFormat.JSONL,
    ".json": FileFormat.JSONL,
}

Format = Annotated[FileFormat | None, typer.Option("--format", help="Without: by the file's extension.")]
Pool = Annotated[str, typer.Option("--pool-key", metavar="POOL", help="Only this pool.")]
LabelFilter = Annotated[str, typer.Option("--label", metavar="KEY:VALUE", help="Only those with this label.")]


@app.command("import")
@asks
def import_(
    file: Annotated[
        str,
        typer.Argument(
            metavar="FILE", help="CSV with a header row, JSON Lines or a JSON array; - for stdin."
        ),
    ],
    *,
    form: Annotated[
        FileFormat | None, typer.Option("--format", help="Without: what the file begins like.")
    ] = None,
    skip_expired: Annotated[
        bool, typer.Option("--skip-expired", help="Leave out bindings that have ended; they are no refusals.")
    ] = False,
    keep_going: Annotated[
        bool,
        typer.Option(
            "--keep-going",
            help="Store the rest of a batch with refused rows; those go to FILE.rejected.csv or .jsonl.",
        ),
    ] = False,
    rejects: Annotated[
        Path | None,
        typer.Option("--rejects", metavar="FILE", help="Where refused rows go; means --keep-going."),
    ] = None,
    progress: Annotated[
        bool | None,
        typer.Option("--progress/--no-progress", help="A bar on stderr; without: if it is a terminal."),
    ] = None,
    daemon: Target,
    as_json: Json = False,
) -> None:
    """Register many bindings. All or nothing per batch of 5,000; running it again changes nothing. Exit 1: refusals."""
    keep_going = keep_going or rejects is not None
    if keep_going and rejects is None and not Path(file).is_file():
        raise typer.BadParameter(f"--keep-going with {file}: say with --rejects FILE where refused rows go")
    wanted = sys.stderr.isatty() if progress is None else progress
    outcome = ImportOutcome()
    with _opened(file) as raw:
        with _read_errors(file):
            rows = _rows(raw, file, form)
        size = _size(raw)
        kept = rejects or Path(f"{file}.rejected.{rows.form}")
        try:
            with _read_errors(file), _bar(wanted, size) as bar, Session(daemon) as session:
                send(
                    session,
                    rows,
                    outcome,
                    lambda done: bar(done, raw.tell() if size else 0),
                    ImportRules(keep_going, time.time if skip_expired else None),
                )
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
        raise typer.BadParameter(f"{file} is empty, and nothing says what it was to hold") from None


def _stop(line: int, error: BaseException) -> None:
    """Say where an import ended, and how it goes on. Raises errors that are told in one line with that in it."""
    where, goes_on = f"stopped at line {line}", "the same import again goes on from there"
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
    form: Format = None,
    file: OutputFile = None,
    masked: Annotated[
        bool, typer.Option("--masked", help="A and B masked: needs no scope admin, cannot be imported.")
    ] = False,
    pool_key: Pool = "",
    label: LabelFilter = "",
    daemon: Target,
) -> None:
    """All bindings with their real numbers, as CSV or JSON Lines (the default). Needs scope admin; each is audited."""
    chosen = form or (
        _form_of(file) if file and file != Path("-") and not _is_special(file) else FileFormat.JSONL
    )
    listed = _listed if masked else _exported

    def work(out: TextIO) -> int:
        count = 0
        writer = csv.writer(out, lineterminator="\n")
        if chosen is FileFormat.CSV:
            writer.writerow(COLUMNS)
        for binding in listed(daemon, pool_key, label):
            count += 1
            if chosen is FileFormat.CSV:
                packed = json.dumps(binding["labels"], ensure_ascii=False) if binding["labels"] else ""
                writer.writerow([*(binding[name] for name in COLUMNS if name != "labels"), packed])
            else:
                out.write(json.dumps(binding, ensure_ascii=False) + "\n")
        return count

    with writing_text(file) as out:
        count = work(out)
    if file is not None and file != Path("-"):
        output.say(f"{count} bindings to {file}")


@app.command("add")
@asks
def add(
    subs_id: SubsId,
    *,
    pool_key: Annotated[str, typer.Option(metavar="POOL", help="The number pool it belongs to.")],
    number_x: Annotated[str, typer.Option(metavar="NUMBER", help="The privacy number.")],
    number_a: Annotated[str, typer.Option(metavar="NUMBER", help="Party A.")],
    number_b: Annotated[str, typer.Option(metavar="NUMBER", help="Party B; none for AXN and AXG.")] = "",
    extension: Annotated[str, typer.Option(metavar="DIGITS", help="Dialled behind X.")] = "",
    expires_at: Annotated[str, typer.Option(metavar="TIME", help="RFC 3339 with its zone.")] = "",
    label: Annotated[list[str] | None, typer.Option(metavar="KEY=VALUE", help="May be repeated.")] = None,
    daemon: Target,
    as_json: Json = False,
) -> None:
    """Register one binding, or bring it up to date."""
    body: dict[str, Any] = {
        "pool_key": pool_key,
        "number_x": number_x,
        "number_a": number_a,
        "number_b": number_b,
        "extension": extension,
        "labels": dict(_pair(given) for given in label or ()),
    }
    if expires_at:
        body["expires_at"] = expires_at
    _show(ask(daemon, "PUT", path("bindings", subs_id), body=body), as_json=as_json)


@app.command("remove")
@asks
def remove(subs_id: SubsId, *, daemon: Target) -> None:
    """Remove one binding. Exit 1: there is none."""
    ask(daemon, "DELETE", path("bindings", subs_id))
    typer.echo(f"{subs_id}: removed")


@app.command("show")
@asks
def show(subs_id: SubsId, *, daemon: Target, as_json: Json = False) -> None:
    """One binding as it was registered. Exit 1: there is none."""
    _show(ask(daemon, "GET", path("bindings", subs_id)), as_json=as_json)


@app.command("list")
@asks
def list_(
    *,
    pool_key: Pool = "",
    label: LabelFilter = "",
    limit: Annotated[int, typer.Option(min=1, help="At most so many.")] = 100,
    daemon: Target,
    as_json: Json = False,
) -> None:
    """Bindings, in order of their ids."""

    found, broken_off = taken(_listed(daemon, pool_key, label), limit + 1)
    more = len(found) > limit
    del found[limit:]
    if as_json:
        output.data({"bindings": found})
    else:
        output.rows(COLUMNS, ([binding[name] for name in COLUMNS] for binding in found))
    if more:
        output.say(f"the first {limit}; --limit shows more")
    if broken_off is not None:
        output.say(f"the list breaks off after {len(found)}")
        raise broken_off


def _exported(daemon: Target, pool_key: str, label: str) -> Iterator[dict[str, Any]]:
    wanted = urlencode(_filter(pool_key, label))
    with tempfile.TemporaryFile() as lines:
        spool = Output(lines.fileno(), f"a temporary file in {tempfile.gettempdir()}", closefd=False)
        with Session(daemon) as session, io.BufferedWriter(spool) as out:
            session.download(f"/v1/bindings/export?{wanted}", out.write)
        lines.seek(0)
        for line in lines:
            yield json.loads(line)


def _filter(pool_key: str, label: str) -> dict[str, str]:
    return {name: given for name, given in (("pool_key", pool_key), ("label", label)) if given}


def _listed(daemon: Target, pool_key: str, label: str) -> Iterator[dict[str, Any]]:
    params = {"limit": str(PAGE)} | _filter(pool_key, label)
    with Session(daemon) as session:
        while True:
            page = session.ask("GET", "/v1/bindings", params=params)
            yield from page["bindings"]
            if not page["cursor"]:
                return
            params["cursor"] = page["cursor"]


def _is_special(file: Path) -> bool:
    """Whether it is there and no plain file, so that its name says nothing."""
    return file.exists() and not file.is_file()


def _form_of(file: Path) -> FileFormat:
    form = _FORMS.get(file.suffix.lower())
    if form is None:
        raise typer.BadParameter(
            f"what {file} is to hold cannot be told: give --format csv or --format jsonl"
        )
    return form


def _pair(given: str) -> tuple[str, str]:
    key, equals, value = given.partition("=")
    if not (key and equals):
        raise typer.BadParameter(f"--label {given}: write KEY=VALUE")
    return key, value


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
    """In bytes; 0 for what has none, as a pipe."""
    found = os.fstat(raw.fileno())
    return found.st_size if stat.S_ISREG(found.st_mode) else 0


@contextmanager
def _bar(wanted: bool, size: int) -> Iterator[Any]:
    """A function of (lines done, bytes read) that moves the bar; without a size it only counts."""
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
        yield lambda done, position: progress.update(task, completed=position, lines=done)


def _report(outcome: ImportOutcome, rejects: Path | None, *, as_json: bool) -> None:
    counts = {name: outcome.stored[name] for name in ("created", "updated", "unchanged")}
    left_out = sum(len(batch.lines) for batch in outcome.refused)
    refused = [mistake for batch in outcome.refused for mistake in batch.mistakes]
    if as_json:
        told = [{"line": m.line, "column": m.column, "error": m.text} for m in (*refused, *outcome.rejected)]
        output.data(
            counts
            | {
                "refused": told,
                "not_stored": left_out + len(told),
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
        line += f"; {outcome.ended:,} left out, as they have ended"
    if outcome.rejected:
        line += f"; {len(outcome.rejected):,} refused" + (f": they are in {rejects}" if rejects else "")
    if refused:
        line += (
            f"; {len(refused):,} refused and {left_out:,} left out with them: mend those lines, import again"
        )
    typer.echo(line)


def _say_mistakes(found: Sequence[RowError]) -> None:
    for mistake in found[:SHOWN_MISTAKES]:
        output.say(f"  {mistake}")
    if len(found) > SHOWN_MISTAKES:
        output.say(f"  and {len(found) - SHOWN_MISTAKES} lines more")


def _show(binding: Any, *, as_json: bool) -> None:
    if as_json:
        output.data(binding)
    else:
        output.facts(binding)
