"""Reported calls and how they ended: calls list, calls show, report. Thin clients of a running daemon."""

import csv
import sys
from typing import Annotated, Any

import typer

from precall.cli import output
from precall.cli.options import Json, duration
from precall.cli.session import ask, path
from precall.cli.target import Target, asks

PANEL = "A running daemon"
app = typer.Typer(no_args_is_help=True, help="Show reported calls.")
report_app = typer.Typer()

LISTED = ("called_at", "call_id", "subs_id", "route_state", "result", "state", "meaning", "duration")
TALLIED = ("placed", "connected", "failed", "not_connected", "unverified", "pending", "wrong")
COLUMNS = ("pool_key", "route_state", *TALLIED)


@app.command("list")
@asks
def list_(
    *,
    result: Annotated[
        str, typer.Option(help="Only pending, connected, failed, not_connected or unverified.")
    ] = "",
    subs_id: Annotated[str, typer.Option(metavar="SUBS_ID", help="Only calls of this binding.")] = "",
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many to list.")] = 20,
    daemon: Target,
    as_json: Json = False,
) -> None:
    """List the latest reported calls.

    Also says how many still wait for the provider's answer.
    """
    params = {"limit": str(limit)}
    params |= {name: value for name, value in (("result", result), ("subs_id", subs_id)) if value}
    answer = ask(daemon, "GET", "/v1/calls", params=params)
    if as_json:
        output.data(answer)
        return
    output.rows(LISTED, ([_listed(call, name) for name in LISTED] for call in answer["calls"]))
    backlog = answer["backlog"]
    output.say(
        f"{backlog['waiting']} wait for the provider's answer; {backlog['due']} of them are due,"
        f" the first for {backlog['age_seconds']:.0f} s"
    )


@app.command("show")
@asks
def show(
    call_id: Annotated[str, typer.Argument(metavar="CALL_ID", help="The provider's id of the call.")],
    *,
    daemon: Target,
    as_json: Json = False,
) -> None:
    """Show a reported call and how it ended.

    Exit 1: the call is unknown.
    """
    answer = ask(daemon, "GET", path("calls", call_id))
    if as_json:
        output.data(answer)
    else:
        output.facts({name: _shown(answer, name) for name in answer}, title=call_id)


@report_app.command(rich_help_panel=PANEL)
@asks
def report(
    *,
    within: Annotated[str, typer.Option(metavar="DURATION", help="How far to look back.")] = "24h",
    since: Annotated[str, typer.Option(metavar="DURATION", hidden=True)] = "",
    as_csv: Annotated[bool, typer.Option("--csv", help="Print pools and states as CSV.")] = False,
    daemon: Target,
    as_json: Json = False,
) -> None:
    """Summarize how calls ended.

    Calls placed, connected and failed by cause, per pool and per state of the route when dialled.
    """
    if as_csv and as_json:
        raise typer.BadParameter("--csv and --json exclude each other")
    answer = ask(daemon, "GET", "/v1/report", params={"within": f"{duration(since or within):g}"})
    if as_json:
        output.data(answer)
        return
    if as_csv:
        table = csv.DictWriter(sys.stdout, COLUMNS, lineterminator="\n")
        table.writeheader()
        table.writerows(answer["by_route"])
        return
    show_report(answer)


def show_report(answer: dict[str, Any]) -> None:
    """Print the answer of `GET /v1/report` as tables."""
    lines = [[row.get(name, "all") for name in COLUMNS] for row in (*answer["by_route"], answer["total"])]
    output.rows(COLUMNS, ([*line[:-1], f"{line[-1]:.2%}"] for line in lines))
    if answer["causes"]:
        typer.echo("")
        output.rows(
            ("calls", "cause", "meaning", "number at fault"),
            ((c["calls"], c["state"], c["meaning"], c["at_fault"]) for c in answer["causes"]),
        )


def _listed(call: dict[str, Any], name: str) -> object:
    # The reasons for having no detail are long, and the same for every such call; `calls show` has them.
    if name == "meaning" and call["result"] == "unverified":
        return call[name].partition(":")[0]
    return _shown(call, name)


def _shown(call: dict[str, Any], name: str) -> object:
    return "" if name == "duration" and call[name] < 0 else call[name]
