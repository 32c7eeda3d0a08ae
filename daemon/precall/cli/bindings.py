"""Registrations: bindings import, export, add, remove, show, list. Thin clients of a running daemon, but for reading
files, which stands in `importing`."""

import csv
import io
import json
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
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
from precall.cli.importing import COLUMNS, Form, Outcome, lines, send
from precall.cli.options import DEFAULT_URL, Json, SubsId, Token, Url
from precall.cli.remote import Session, ask, path
from precall.core.errors import OutOfReach

app = typer.Typer(no_args_is_help=True, help="Registered bindings: import, export, add, remove, show, list.")

PAGE = 1000
SHOWN_MISTAKES = 5
_FORMS = {".csv": Form.CSV, ".jsonl": Form.JSONL, ".ndjson": Form.JSONL, ".json": Form.JSONL}

Format = Annotated[Form | None, typer.Option("--format", help="Without: by the file's extension.")]
Pool = Annotated[str, typer.Option("--pool-key", metavar="POOL", help="Only this pool.")]
LabelFilter = Annotated[str, typer.Option("--label", metavar="KEY:VALUE", help="Only those with this label.")]


@app.command("import")
def import_(
    file: Annotated[
        str, typer.Argument(metavar="FILE", help="CSV with a header row, or JSON Lines; - for stdin.")
    ],
    *,
    form: Format = None,
    progress: Annotated[
        bool | None,
        typer.Option("--progress/--no-progress", help="A bar on stderr; without: if it is a terminal."),
    ] = None,
    url: Url = DEFAULT_URL,
    token: Token = "",
    as_json: Json = False,
) -> None:
    """Register many bindings. All or nothing per batch of 5,000; running it again changes nothing. Exit 1: refusals."""
    chosen = form or _form_of(file)
    wanted = sys.stderr.isatty() if progress is None else progress

    outcome, goes_on = Outcome(), "the same import again goes on from there"
    try:
        with _opened(file) as raw:
            size = os.fstat(raw.fileno()).st_size if file != "-" else 0
            # Bytes that are no UTF-8 become characters that no column accepts: the line is named, the rest is read.
            source = io.TextIOWrapper(raw, encoding="utf-8-sig", errors="surrogateescape", newline="")
            with _bar(wanted, size) as bar, Session(url, token) as session:
                send(
                    session, lines(source, chosen), outcome, lambda done: bar(done, raw.tell() if size else 0)
                )
    except OutOfReach as error:
        _report(outcome, as_json=as_json)
        raise OutOfReach(f"stopped at line {outcome.at_line}: {error}; {goes_on}") from None
    except KeyboardInterrupt:
        _report(outcome, as_json=as_json)
        output.say(f"interrupted at line {outcome.at_line}; {goes_on}")
        raise
    _report(outcome, as_json=as_json)
    if outcome.refused:
        raise typer.Exit(1)


@app.command("export")
def export(
    *,
    form: Format = None,
    file: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="Without: stdout.")
    ] = None,
    masked: Annotated[
        bool, typer.Option("--masked", help="A and B masked: needs no scope admin, cannot be imported.")
    ] = False,
    pool_key: Pool = "",
    label: LabelFilter = "",
    url: Url = DEFAULT_URL,
    token: Token = "",
) -> None:
    """All bindings with their real numbers, as CSV or JSON Lines (the default). Needs scope admin; each is audited."""
    chosen = form or (_form_of(str(file)) if file else Form.JSONL)
    listed = _listed if masked else _exported

    def work(out: TextIO) -> int:
        count = 0
        writer = csv.writer(out, lineterminator="\n")
        if chosen is Form.CSV:
            writer.writerow(COLUMNS)
        for binding in listed(url, token, pool_key, label):
            count += 1
            if chosen is Form.CSV:
                packed = json.dumps(binding["labels"], ensure_ascii=False) if binding["labels"] else ""
                writer.writerow([*(binding[name] for name in COLUMNS if name != "labels"), packed])
            else:
                out.write(json.dumps(binding, ensure_ascii=False) + "\n")
        return count

    if file is None:
        work(sys.stdout)
        return
    try:
        # For its owner alone: real numbers stand in it.
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8", newline="") as out:
            count = work(out)
    except OSError as error:
        raise typer.BadParameter(f"{file} cannot be written: {error.strerror}") from error
    output.say(f"{count} bindings to {file}")


@app.command("add")
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
    url: Url = DEFAULT_URL,
    token: Token = "",
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
    _show(ask(url, token, "PUT", path("bindings", subs_id), body=body), as_json=as_json)


@app.command("remove")
def remove(subs_id: SubsId, *, url: Url = DEFAULT_URL, token: Token = "") -> None:
    """Remove one binding. Exit 1: there is none."""
    ask(url, token, "DELETE", path("bindings", subs_id))
    typer.echo(f"{subs_id}: removed")


@app.command("show")
def show(subs_id: SubsId, *, url: Url = DEFAULT_URL, token: Token = "", as_json: Json = False) -> None:
    """One binding as it was registered. Exit 1: there is none."""
    _show(ask(url, token, "GET", path("bindings", subs_id)), as_json=as_json)


@app.command("list")
def list_(
    *,
    pool_key: Pool = "",
    label: LabelFilter = "",
    limit: Annotated[int, typer.Option(min=1, help="At most so many.")] = 100,
    url: Url = DEFAULT_URL,
    token: Token = "",
    as_json: Json = False,
) -> None:
    """Bindings, in order of their ids."""

    found = list(islice(_listed(url, token, pool_key, label), limit + 1))
    more = len(found) > limit
    del found[limit:]
    if as_json:
        output.data({"bindings": found})
        return
    output.rows(COLUMNS, ([binding[name] for name in COLUMNS] for binding in found))
    if more:
        output.say(f"the first {limit}; --limit shows more")


def _exported(url: str, token: str, pool_key: str, label: str) -> Iterator[dict[str, Any]]:
    wanted = urlencode(_filter(pool_key, label))
    with tempfile.TemporaryFile() as lines:
        with Session(url, token) as session:
            session.download(f"/v1/bindings/export?{wanted}", lines.write)
        lines.seek(0)
        for line in lines:
            yield json.loads(line)


def _filter(pool_key: str, label: str) -> dict[str, str]:
    return {name: given for name, given in (("pool_key", pool_key), ("label", label)) if given}


def _listed(url: str, token: str, pool_key: str, label: str) -> Iterator[dict[str, Any]]:
    params = {"limit": str(PAGE)} | _filter(pool_key, label)
    with Session(url, token) as session:
        while True:
            page = session.ask("GET", "/v1/bindings", params=params)
            yield from page["bindings"]
            if not page["cursor"]:
                return
            params["cursor"] = page["cursor"]


def _form_of(file: str) -> Form:
    form = _FORMS.get(Path(file).suffix.lower())
    if form is None:
        raise typer.BadParameter(f"what {file} holds cannot be told: give --format csv or --format jsonl")
    return form


def _pair(given: str) -> tuple[str, str]:
    key, equals, value = given.partition("=")
    if not (key and equals):
        raise typer.BadParameter(f"--label {given}: write KEY=VALUE")
    return key, value


def _opened(file: str) -> BinaryIO:
    if file == "-":
        return sys.stdin.buffer
    try:
        return Path(file).open("rb")
    except OSError as error:
        raise typer.BadParameter(f"{file} cannot be read: {error.strerror}") from error


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


def _report(outcome: Outcome, *, as_json: bool) -> None:
    counts = {name: outcome.stored[name] for name in ("created", "updated", "unchanged")}
    left_out = sum(len(batch.lines) for batch in outcome.refused)
    refused = [mistake for batch in outcome.refused for mistake in batch.mistakes]
    if as_json:
        output.data(
            counts
            | {
                "refused": [{"line": m.line, "column": m.column, "error": m.text} for m in refused],
                "not_stored": left_out + len(refused),
                "batches_not_stored": [{"first_line": b.first, "last_line": b.last} for b in outcome.refused],
            }
        )
        return
    for batch in outcome.refused:
        output.say(f"not stored: lines {batch.first} to {batch.last}, because of")
        for mistake in batch.mistakes[:SHOWN_MISTAKES]:
            output.say(f"  {mistake}")
        if len(batch.mistakes) > SHOWN_MISTAKES:
            output.say(f"  and {len(batch.mistakes) - SHOWN_MISTAKES} lines more")
    line = ", ".join(f"{count:,} {name}" for name, count in counts.items())
    if refused:
        line += (
            f"; {len(refused):,} refused and {left_out:,} left out with them: mend those lines, import again"
        )
    typer.echo(line)


def _show(binding: Any, *, as_json: bool) -> None:
    if as_json:
        output.data(binding)
    else:
        output.facts(binding)
