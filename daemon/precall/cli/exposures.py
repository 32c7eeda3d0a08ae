"""The audit of real numbers that were handed out: exposures list. A thin client of a running daemon."""

from typing import Annotated

import typer

from precall.api.schemas.exposures import ExposureAnswer
from precall.cli.listings import Listing, ListingView, lists
from precall.cli.paged import show_pages
from precall.cli.target import Target, asks

app = typer.Typer(no_args_is_help=True, help="Show which real numbers were handed out.")

EXPOSURES = Listing(
    "exposures",
    ("last_at", "count", "reader", "pool_key", "subs_id", "side", "reason", "request_id"),
    tuple(ExposureAnswer.model_fields),
)


@app.command("list")
@asks
@lists(EXPOSURES)
def list_(
    *,
    pool_key: Annotated[str, typer.Option("--pool-key", metavar="POOL", help="Only of this pool.")] = "",
    reader: Annotated[str, typer.Option(metavar="NAME", help="Only to the token with this name.")] = "",
    subs_id: Annotated[str, typer.Option(metavar="SUBS_ID", help="Only of this binding.")] = "",
    number: Annotated[str, typer.Option(metavar="NUMBER", help="Only of this real number.")] = "",
    since: Annotated[
        str, typer.Option(metavar="TIME", help="Only exposures that ended at or after this time (RFC 3339).")
    ] = "",
    limit: Annotated[int, typer.Option(min=1, help="How many to list.")] = 100,
    daemon: Target,
    view: ListingView,
) -> None:
    """List exposures of real numbers, newest first.

    Shows which client got which number, when, how often within a minute, and why. Needs scope admin.
    """
    wanted = {"pool_key": pool_key, "reader": reader, "subs_id": subs_id, "number": number, "since": since}
    show_pages(daemon, wanted, limit=limit, view=view)
