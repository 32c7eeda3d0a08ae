"""What happened to a binding: history. A thin client of a running daemon."""

from collections.abc import Iterator
from typing import Annotated, Any

import typer

from precall.api.schemas.bindings import ChangeAnswer, RunAnswer
from precall.api.schemas.orders import OrderAnswer
from precall.cli import output
from precall.cli.listings import Listing, ListingView, lists
from precall.cli.options import SubsId
from precall.cli.session import ask, path
from precall.cli.target import Target, asks
from precall.core.orders import OrderKind

app = typer.Typer()

_OWN = ("event", "at", "summary")
HISTORY = Listing(
    "history",
    ("at", "event", "summary", "request_id"),
    tuple(
        dict.fromkeys((*_OWN, *ChangeAnswer.model_fields, *RunAnswer.model_fields, *OrderAnswer.model_fields))
    ),
)


@app.command(rich_help_panel="A running daemon")
@asks
@lists(HISTORY)
def history(
    subs_id: SubsId,
    *,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many events to list.")] = 50,
    daemon: Target,
    view: ListingView,
) -> None:
    """List what happened to a binding, newest first.

    Answers of the provider, changes of the route, and orders, also those for its pool or for all pools. Equal answers
    in a row are one event at the time of the last one. Who gave an order, and why, needs scope admin. Exit 1: the
    binding is unknown.
    """
    answer = ask(daemon, "GET", path("bindings", subs_id, "history"), params={"limit": str(limit)})
    found = sorted(_events(answer), key=lambda event: event["at"], reverse=True)
    view.show(found[:limit])
    if answer["cursor"] or len(found) > limit:
        output.say(f"the newest {limit}; --limit shows more")


def _events(answer: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield everything in the order in which the later of two events at the same moment comes first."""
    for order in answer["orders"]:
        yield {"event": "order", "summary": _order(order)} | order
    for change in answer["changes"]:
        yield {"event": "change", "summary": _change(change)} | change
    for run in answer["results"]:
        yield {"event": "answer", "at": run["last_at"], "summary": _answer(run)} | run


def _answer(run: dict[str, Any]) -> str:
    code = "" if run["code"] == "OK" else run["code"]
    said = " ".join(filter(None, (run["result"], run["number"], code)))
    return said if run["count"] == 1 else f"{said}, {run['count']} times in a row"


def _change(change: dict[str, Any]) -> str:
    turned = " to ".join(dict.fromkeys(filter(None, (change["from_state"], change["to_state"]))))
    return f"{turned}: {change['action']} {change['number']}".rstrip() + f" ({change['reason']})"


def _order(order: dict[str, Any]) -> str:
    what = order["action"] if order["kind"] == OrderKind.PAUSE else f"{order['kind']} {order['action']}"
    where = "" if "subs_id" in order else f" for {order.get('pool_key') or 'all pools'}"
    by = f" by {order['by']}" if order["by"] else ""
    return f"{what}{where}{by}" + (f": {order['reason']}" if order["reason"] else "")
