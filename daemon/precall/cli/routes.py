"""What to dial, and why: route, explain, routes list, routes lookup. Thin clients of a running daemon."""

from typing import Annotated, Any

import typer

from precall.api.schemas.routes import MAX_LOOKUP, RouteAnswer
from precall.cli import output
from precall.cli.listings import Listing, ListingView, lists
from precall.cli.options import Json, SubsId, duration
from precall.cli.paged import show_pages
from precall.cli.session import Session, ask, path
from precall.cli.target import Target, asks

PANEL = "A running daemon"
app = typer.Typer()
routes_app = typer.Typer(no_args_is_help=True, help="Show the routes of many bindings.")
app.add_typer(routes_app, name="routes", rich_help_panel=PANEL)

ROUTES = Listing(
    "routes",
    (
        "subs_id",
        "action",
        "number",
        "state",
        "reason",
        "checked_at",
        "good_until",
        "stale",
        "extension",
        "flags",
    ),
    tuple(RouteAnswer.model_fields),
)
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


@routes_app.command("list")
@asks
@lists(ROUTES)
def list_(
    *,
    action: Annotated[
        str, typer.Option(help="Only dial_x, dial_temp_x, dial_real, hold or expired.", metavar="ACTION")
    ] = "",
    state: Annotated[
        str,
        typer.Option(
            help="Only unverified, normal, temporary, fallback, expired or blocked.", metavar="STATE"
        ),
    ] = "",
    pool_key: Annotated[str, typer.Option("--pool-key", metavar="POOL", help="Only of this pool.")] = "",
    stale: Annotated[
        bool | None, typer.Option("--stale/--fresh", help="Only routes that are stale, or that are not.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="How many to list.")] = 100,
    daemon: Target,
    view: ListingView,
) -> None:
    """List routes in the order of their bindings' ids.

    Shows what a reader without a caller gets; real numbers are withheld.
    """
    wanted = {"action": action, "state": state, "pool_key": pool_key}
    if stale is not None:
        wanted["stale"] = str(stale).lower()
    show_pages(daemon, wanted, limit=limit, view=view, which="first")


@routes_app.command("lookup")
@asks
@lists(ROUTES)
def lookup(
    subs_ids: Annotated[list[str], typer.Argument(metavar="SUBS_ID...", help="Ids of bindings.")],
    *,
    caller: Annotated[str, typer.Option(metavar="NUMBER", help="The calling number.")] = "",
    daemon: Target,
    view: ListingView,
) -> None:
    """Show what to dial for several bindings.

    As a dispatcher gets it: with scope routes:real the answer has real numbers, and each is audited. Exit 1: a binding
    is unknown.
    """
    routes, unknown = list[dict[str, Any]](), list[str]()
    with Session(daemon) as session:
        for first in range(0, len(subs_ids), MAX_LOOKUP):
            body = {"subs_ids": subs_ids[first : first + MAX_LOOKUP], "caller": caller}
            answer = session.ask("POST", "/v1/routes/lookup", body=body)
            routes += answer["routes"]
            unknown += answer["unknown"]
    view.show(routes, unknown=unknown)
    if unknown:
        output.say(f"unknown: {', '.join(unknown)}")
        raise typer.Exit(1)
