"""What to dial for a binding, and why: route, explain. Thin clients of a running daemon."""

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
    caller: Annotated[str, typer.Option(metavar="NUMBER", help="The calling number.")] = "",
    max_age: Annotated[
        str | None,
        typer.Option(metavar="DURATION", help="Check first if the route is older than this, such as 5s."),
    ] = None,
    timeout: Annotated[
        str | None, typer.Option(metavar="DURATION", help="How long to wait for that check. Default: 0.3s.")
    ] = None,
    daemon: Target,
    as_json: Json = False,
) -> None:
    """Show what to dial for a binding.

    Exit 1: the binding is unknown, or must not be dialled.
    """
    params = {"dial": "0"}  # a person asks: nothing is about to be dialled
    for name, given in (("max_age", duration(max_age)), ("timeout", duration(timeout))):
        if given is not None:
            params[name] = f"{given:g}"
    if caller:
        params["caller"] = caller
    answer = ask(daemon, "GET", path("routes", subs_id), params=params)
    if as_json:
        output.data(answer)
    else:
        output.route(answer)
    if answer["action"] not in _DIALLED:
        raise typer.Exit(1)


@app.command(rich_help_panel=PANEL)
@asks
def explain(subs_id: SubsId, *, daemon: Target, as_json: Json = False) -> None:
    """Explain the route of a binding in sentences.

    Shows the route, the reason for it, how long it holds, and the next check. --json has the data behind it.
    """
    answer = ask(daemon, "GET", path("bindings", subs_id, "explain"))
    if as_json:
        output.data(answer)
        return
    for sentence in answer["sentences"]:
        output.paragraph(sentence)
    results: list[dict[str, Any]] = answer["results"] or []
    if results:
        output.rows(RESULT, ([result[name] for name in RESULT] for result in results))
