"""Lists as the user wants them: `--format`, `--columns`, `--sort` and `--tz` of every command that lists something."""

import csv
import json
import re
import sys
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum
from functools import partial
from typing import Annotated, Any, TypeVar
from zoneinfo import ZoneInfo

import typer

from precall.cli import output, streams
from precall.cli.options import supplied
from precall.cli.tables import fitted, room

PANEL = "Output"

R = TypeVar("R")
Record = Mapping[str, Any]
Cell = Callable[[Record, str], object]
Localize = Callable[[datetime], datetime]
_MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")
_OFFSET = re.compile(r"[+-]\d\d:\d\d")


class ListingFormat(StrEnum):
    """How a list is printed."""

    TABLE = "table"
    WIDE = "wide"
    JSON = "json"
    JSONL = "jsonl"
    CSV = "csv"
    MD = "md"


def as_returned(record: Record, name: str) -> object:
    """Return a value for a table, as the API returned it."""
    return record.get(name)


@dataclass(frozen=True, slots=True)
class Listing:
    """What a command lists: the name of the list in the JSON, and the fields of its records.

    `columns` are the fields of a table, the most important first. `cell` makes a value fit for people.
    """

    name: str
    columns: tuple[str, ...]
    fields: tuple[str, ...]
    cell: Cell = as_returned


@dataclass(frozen=True, slots=True)
class ListingView:
    """How the user wants a listing printed. `columns` and `sort` are empty where the user named none."""

    listing: Listing
    form: ListingFormat = ListingFormat.TABLE
    columns: tuple[str, ...] = ()
    sort: tuple[str, ...] = ()
    localize: Localize | None = None

    def show(self, records: Iterable[Record], **rest: object) -> None:
        """Print the records. `rest` are the other members of the JSON document."""
        found = self._sorted(records)
        match self.form:
            case ListingFormat.JSON:
                output.data({self.listing.name: [self._chosen(record) for record in found]} | rest)
            case ListingFormat.JSONL:
                for record in found:
                    typer.echo(json.dumps(self._chosen(record), ensure_ascii=not streams.is_utf8()))
            case ListingFormat.CSV:
                table = csv.writer(sys.stdout, lineterminator="\n")
                columns = self.columns or self.listing.fields
                table.writerow(columns)
                table.writerows([_cell_of_csv(record.get(name)) for name in columns] for record in found)
            case ListingFormat.MD:
                self._markdown(found)
            case ListingFormat.TABLE | ListingFormat.WIDE:
                self._table(found)

    def over(self, listing: Listing) -> "ListingView":
        """Return the view of another listing. Usage error for a column that this one does not have."""
        for option, names in (("--columns", self.columns), ("--sort", self.sort)):
            _names(option, ",".join(names), [*listing.fields, *(f"-{name}" for name in listing.fields)])
        return replace(self, listing=listing)

    @property
    def is_data(self) -> bool:
        """Whether programs are to read it, so that nothing else may be printed."""
        return self.form not in (ListingFormat.TABLE, ListingFormat.WIDE)

    def _sorted(self, records: Iterable[Record]) -> list[Record]:
        found = list(records)
        # The last column is sorted by first, since sorting is stable. What is empty comes last either way.
        for name in reversed(self.sort):
            field, descending = name.removeprefix("-"), name.startswith("-")
            filled = [record for record in found if not _is_empty(record.get(field))]
            empty = [record for record in found if _is_empty(record.get(field))]
            found = sorted(filled, key=partial(_sort_key, field), reverse=descending) + empty
        return found

    def _chosen(self, record: Record) -> Record:
        return {name: record.get(name) for name in self.columns} if self.columns else record

    def _table(self, found: Sequence[Record]) -> None:
        wide = self.form is ListingFormat.WIDE
        columns = self.columns or (self.listing.fields if wide else self.listing.columns)
        header, rows = list(columns), [self._cells(record, columns) for record in found]
        if not wide and (width := room()):
            header, *rows = fitted([header, *rows], width)
        output.table(header, rows)
        if left_out := columns[len(header) :]:
            output.say(f"no room for {', '.join(left_out)}: --format wide")

    def _markdown(self, found: Sequence[Record]) -> None:
        columns = self.columns or self.listing.columns
        typer.echo(_line_of_markdown(columns))
        typer.echo(_line_of_markdown(["---"] * len(columns)))
        for record in found:
            typer.echo(_line_of_markdown(self._cells(record, columns)))

    def _cells(self, record: Record, columns: Sequence[str]) -> list[str]:
        return [output.shown(self._local(self.listing.cell(record, name))) for name in columns]

    def _local(self, value: object) -> object:
        if self.localize is None or not isinstance(value, str) or not (found := _MOMENT.fullmatch(value)):
            return value
        precision = "milliseconds" if found[1] else "seconds"
        return self.localize(datetime.fromisoformat(value)).isoformat(timespec=precision)


def lists(listing: Listing) -> Callable[[Callable[..., R]], Callable[..., R]]:
    """Give a command that takes `view: ListingView` the options that choose it."""

    def view(
        *,
        form: Annotated[
            ListingFormat | None,
            typer.Option(
                "--format",
                metavar="FORMAT",
                help="table, wide (every column), json, jsonl, csv or md. Default: table.",
                rich_help_panel=PANEL,
            ),
        ] = None,
        as_json: Annotated[
            bool, typer.Option("--json", help="The same as --format json.", rich_help_panel=PANEL)
        ] = False,
        columns: Annotated[
            str,
            typer.Option(
                metavar="COLUMN,...", help=f"Of {', '.join(listing.fields)}.", rich_help_panel=PANEL
            ),
        ] = "",
        sort: Annotated[
            str,
            typer.Option(
                metavar="COLUMN,...",
                help="Sort what is listed; -COLUMN sorts downwards.",
                rich_help_panel=PANEL,
            ),
        ] = "",
        zone: Annotated[
            str,
            typer.Option(
                "--tz",
                metavar="ZONE",
                help="Show times of table, wide and md in local, Asia/Shanghai or +08:00. Default: UTC.",
                rich_help_panel=PANEL,
            ),
        ] = "",
    ) -> ListingView:
        if as_json and form not in (None, ListingFormat.JSON):
            raise typer.BadParameter(f"--json and --format {form} exclude each other")
        chosen = ListingFormat.JSON if as_json else form or ListingFormat.TABLE
        return ListingView(
            listing,
            chosen,
            _names("--columns", columns, listing.fields),
            _names("--sort", sort, [*listing.fields, *(f"-{name}" for name in listing.fields)]),
            _zone(zone),
        )

    return lambda work: supplied(work, "view", view)


def _names(option: str, text: str, known: Collection[str]) -> tuple[str, ...]:
    names = tuple(name.strip() for name in text.split(",") if name.strip())
    if unknown := [name for name in names if name not in known]:
        there_are = ", ".join(name for name in known if not name.startswith("-"))
        raise typer.BadParameter(f"{option} {unknown[0]}: there is no such column; there are {there_are}")
    return names


def _zone(text: str) -> Localize | None:
    """Return what moves a moment into a time zone. Usage error for an unknown one."""
    if not text:
        return None
    if text == "local":
        return datetime.astimezone
    try:
        if _OFFSET.fullmatch(text):
            zone = datetime.fromisoformat(f"2000-01-01T00:00:00{text}").tzinfo
        else:
            zone = UTC if text == "UTC" else ZoneInfo(text)
    except (ValueError, OSError, LookupError):
        raise typer.BadParameter(
            f"--tz {text}: there is no such zone; write local, UTC, Asia/Shanghai or +08:00"
        ) from None
    return lambda moment: moment.astimezone(zone)


def _is_empty(value: object) -> bool:
    return value is None or value in ("", [], {})


def _sort_key(name: str, record: Record) -> tuple[bool, object]:
    value = record[name]
    return (False, value) if isinstance(value, int | float) else (True, _cell_of_csv(value))


def _cell_of_csv(value: object) -> object:
    """Return a value as text that a program reads back: JSON, where it is neither text nor a number."""
    return json.dumps(value, ensure_ascii=False) if isinstance(value, bool | dict | list) else value


def _line_of_markdown(cells: Iterable[str]) -> str:
    escaped = [cell.replace("|", r"\|") for cell in cells]
    return f"| {' | '.join(escaped)} |"
