"""What is held about a person: person find, person erase. Thin clients of a running daemon."""

import sys
from collections.abc import Mapping
from typing import Annotated, Any

import typer

from precall.cli import output
from precall.cli.listings import Listing, ListingView, lists
from precall.cli.options import Json
from precall.cli.session import ask
from precall.cli.target import Target, asks

app = typer.Typer(no_args_is_help=True, help="Find or erase what is held about a phone number.")

PATIENCE = 3600.0
"""Seconds to wait for an answer: the daemon reads every row of the history."""
SHOWN = 5
NOTHING = "nothing is held about this number"

PersonNumber = Annotated[
    str,
    typer.Option("--number", metavar="NUMBER", help="The person's number; - reads it from standard input."),
]


def _shown(record: Mapping[str, Any], name: str) -> object:
    value = record[name]
    if name != "subs_ids":
        return value
    more = f" … {len(value) - SHOWN} more" if len(value) > SHOWN else ""
    return ",".join(map(str, value[:SHOWN])) + more


FIELDS = ("where", "origin", "count", "outcome", "subs_ids")
RECORDS = Listing("records", FIELDS, FIELDS, _shown)


@app.command("find")
@asks
@lists(RECORDS)
def find(*, number: PersonNumber, daemon: Target, view: ListingView) -> None:
    """Find what is held about a phone number.

    Shows bindings, history, calls, orders and audit rows, and what an erasure would do to each. Exit 1: nothing is
    held. Needs scope admin.
    """
    answer = ask(daemon, "POST", "/v1/persons/find", body={"number": _read(number)}, timeout=PATIENCE)
    records = answer.pop("records")
    if records or view.is_data:
        view.show(records, **answer)
    if not records:
        output.say(NOTHING)
        raise typer.Exit(1)


@app.command("erase")
@asks
def erase(
    *,
    number: PersonNumber,
    reason: Annotated[str, typer.Option(help="Why; logged.")],
    yes: Annotated[bool, typer.Option("--yes", help="Erase: this cannot be undone.")] = False,
    daemon: Target,
    as_json: Json = False,
) -> None:
    """Erase what is held about a phone number.

    Removes bindings, blanks the history, unlinks calls. Exit 1: bindings of the source remain, which must be erased
    there first. Needs scope admin.
    """
    if not yes:
        raise typer.BadParameter("this cannot be undone; look at `precall person find`, then add --yes")
    body = {"number": _read(number), "reason": reason}
    answer = ask(daemon, "POST", "/v1/persons/erase", body=body, timeout=PATIENCE)
    _show(answer, as_json=as_json)
    if not answer["complete"]:
        output.say("not all is erased: erase what says source_first in the source, then repeat this command")
        raise typer.Exit(1)


def _read(number: str) -> str:
    return sys.stdin.readline().strip() if number == "-" else number


def _show(answer: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        output.data(answer)
    elif answer["records"]:
        ListingView(RECORDS).show(answer["records"])
    if not answer["records"]:
        output.say(NOTHING)
