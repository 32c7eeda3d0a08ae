"""What a dispatcher would be told, and why: route, explain. Thin clients of a running daemon."""

from typing import Annotated, Any

import typer

from precall.cli import output
from precall.cli.options import Json, SubsId, duration
from precall.cli.session import ask, path
from precall.cli.target import Target, asks

PANEL = "A running daemon"
app = typer.Typer()

RESULT = ("last_at", "count", "result", "number", "code", "request_id", "seconds")
_DIALLED = ("dial_x", "dial_temp_x", "dial_real")


@app.command(rich_help_panel=PANEL)
@asks
def route(
    subs_id: SubsId,
    *,
    caller: Annotated[str, typer.Option(metavar="NUMBER", help="Who is about to call.")] = "",
    max_age: Annotated[
        str | None, typer.Option(metavar="DURATION", help="Check now if the route is older, as in 5s.")
    ] = None,
    timeout: Annotated[
        str | None, typer.Option(metavar="DURATION", help="How long to wait for such a check (0.3s).")
    ] = None,
    daemon: Target,
    as_json: Json = False,
) -> None:
    """What a dispatcher would be told. Exit 1: unknown, or not to be dialled."""
    params = {"dial": "0"}  # asked by a person: nothing is about to be dialled
    for name, given in (("max_age", duration(max_age)), ("timeout", duration(timeout))):
        if given is not None:
            params[name] = f"{given:g}"
    if caller:
        params["caller"] = caller
    told = ask(daemon, "GET", path("routes", subs_id), params=params)
    if as_json:
        output.data(told)
    else:
        output.route(told)
    if told["action"] not in _DIALLED:
        raise typer.Exit(1)


@app.command(rich_help_panel=PANEL)
@asks
def explain(subs_id: SubsId, *, daemon: Target, as_json: Json = False) -> None:
    """Why this route: last answers, state, flags, and when it is checked next."""
    told = ask(daemon, "GET", path("bindings", subs_id, "explain"))
    if as_json:
        output.data(told)
        return
    output.route(told["route"])
    for part, content in told.items():
        if part != "route" and isinstance(content, dict):
            output.facts(content, title=part.replace("_", " "))
    results: list[dict[str, Any]] = told["results"] or []
    if results:
        output.rows(RESULT, ([result[name] for name in RESULT] for result in results))
