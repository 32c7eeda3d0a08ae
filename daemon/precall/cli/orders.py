"""Orders of an operator: override, pause, resume, brake, and their list. Thin clients of a running daemon."""

from typing import Annotated, Any

import typer

from precall.api.schemas.orders import OrderAnswer
from precall.cli import output
from precall.cli.listings import Listing, ListingView, lists
from precall.cli.options import Json, SubsId
from precall.cli.paged import show_pages
from precall.cli.session import ask, path
from precall.cli.target import Target, asks

PANEL = "A running daemon"
app = typer.Typer()
override_app = typer.Typer(no_args_is_help=True, help="Override the route of a binding.")
brake_app = typer.Typer(no_args_is_help=True, help="Stop handing out real numbers, or allow it again.")
orders_app = typer.Typer(no_args_is_help=True, help="Show what was ordered, by whom and why.")
app.add_typer(override_app, name="override", rich_help_panel=PANEL)
app.add_typer(brake_app, name="brake", rich_help_panel=PANEL)
app.add_typer(orders_app, name="orders", rich_help_panel=PANEL)

ORDERS = Listing(
    "orders",
    ("at", "kind", "pool_key", "subs_id", "action", "by", "reason", "until", "in_force"),
    tuple(OrderAnswer.model_fields),
)

PoolOption = Annotated[str, typer.Option("--pool-key", metavar="POOL", help="Only this pool. Default: all.")]
ReasonOption = Annotated[str, typer.Option(help="Why; stored and logged.")]


@override_app.command("set")
@asks
def override_set(
    subs_id: SubsId,
    action: Annotated[str, typer.Argument(help="hold, dial_x or dial_temp_x.")],
    *,
    reason: ReasonOption = "",
    number: Annotated[str, typer.Option(help="A number of the binding. Default: by the action.")] = "",
    until: Annotated[str, typer.Option(metavar="TIME", help="RFC 3339. Default: until it is lifted.")] = "",
    daemon: Target,
    as_json: Json = False,
) -> None:
    """Override the route of a binding.

    The override ends when it is lifted, at a given time, or when the binding is replaced by a new one.
    """
    body: dict[str, Any] = {"action": action, "number": number, "reason": reason}
    if until:
        body["until"] = until
    answer = ask(daemon, "PUT", path("overrides", subs_id), body=body)
    _show(answer, f"{subs_id}: {action}", as_json=as_json)


@override_app.command("lift")
@asks
def override_lift(subs_id: SubsId, *, daemon: Target, as_json: Json = False) -> None:
    """Remove the override of a binding.

    Its route follows the answers of the provider again.
    """
    answer = ask(daemon, "DELETE", path("overrides", subs_id))
    _show(answer, f"{subs_id}: no override", as_json=as_json)


@orders_app.command("list")
@asks
@lists(ORDERS)
def orders_list(
    *,
    kind: Annotated[str, typer.Option(metavar="KIND", help="Only override, pause or brake.")] = "",
    pool_key: Annotated[str, typer.Option("--pool-key", metavar="POOL", help="Only for this pool.")] = "",
    subs_id: Annotated[str, typer.Option(metavar="SUBS_ID", help="Only for this binding.")] = "",
    all_: Annotated[bool, typer.Option("--all", help="Also orders that are no longer in force.")] = False,
    limit: Annotated[int, typer.Option(min=1, help="How many to list.")] = 100,
    daemon: Target,
    view: ListingView,
) -> None:
    """List the overrides, pauses and brakes in force, newest first.

    Shows who ordered what, when, why and until when. An empty pool_key stands for all pools. Needs scope admin.
    """
    wanted = {
        "kind": kind,
        "pool_key": pool_key,
        "subs_id": subs_id,
        "in_force": "" if all_ else "1",
    }
    show_pages(daemon, wanted, limit=limit, view=view)


@app.command(rich_help_panel=PANEL)
@asks
def pause(
    *,
    pool_key: PoolOption = "",
    reason: ReasonOption = "",
    daemon: Target,
    as_json: Json = False,
) -> None:
    """Pause background checks.

    The pause survives a restart. Routes are still served.
    """
    answer = _order(daemon, "/v1/pause", pool_key, reason)
    _show(answer, f"paused: {pool_key or 'all pools'}", as_json=as_json)


@app.command(rich_help_panel=PANEL)
@asks
def resume(
    *,
    pool_key: PoolOption = "",
    reason: ReasonOption = "",
    daemon: Target,
    as_json: Json = False,
) -> None:
    """Resume background checks."""
    answer = _order(daemon, "/v1/resume", pool_key, reason)
    _show(answer, f"resumed: {pool_key or 'all pools'}", as_json=as_json)


@brake_app.command("engage")
@asks
def brake_engage(
    *,
    pool_key: PoolOption = "",
    reason: ReasonOption = "",
    daemon: Target,
    as_json: Json = False,
) -> None:
    """Stop turning bindings to their real numbers.

    The brake survives a restart.
    """
    answer = _order(daemon, "/v1/brake/engage", pool_key, reason)
    _show(answer, f"brake engaged: {pool_key or 'all pools'}", as_json=as_json)


@brake_app.command("release")
@asks
def brake_release(
    *,
    pool_key: PoolOption = "",
    reason: ReasonOption = "",
    daemon: Target,
    as_json: Json = False,
) -> None:
    """Allow real numbers again, with a fresh cap."""
    answer = _order(daemon, "/v1/brake/release", pool_key, reason)
    _show(answer, f"brake released: {pool_key or 'all pools'}", as_json=as_json)


def _order(daemon: Target, path: str, pool_key: str, reason: str) -> Any:
    return ask(daemon, "POST", path, body={"pool_key": pool_key, "reason": reason})


def _show(answer: Any, line: str, *, as_json: bool) -> None:
    if as_json:
        output.data(answer)
    else:
        typer.echo(line)
