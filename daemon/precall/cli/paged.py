"""Lists that the API gives in pages: bindings, routes, orders and exposures."""

from collections.abc import Iterator, Mapping
from typing import Any

from precall.cli import output
from precall.cli.listings import ListingView
from precall.cli.session import Session, taken
from precall.cli.target import Target

PAGE = 1000


def pages(session: Session, resource: str, wanted: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    """Yield the items of `/v1/{resource}`, asking for a page whenever one is used up.

    `wanted` are the filters of the API; empty ones are left out.
    """
    params = {"limit": str(PAGE)} | {name: given for name, given in wanted.items() if given}
    while True:
        page = session.ask("GET", f"/v1/{resource}", params=params)
        yield from page[resource]
        if not page["cursor"]:
            return
        params["cursor"] = page["cursor"]


def show_pages(
    daemon: Target, wanted: Mapping[str, str], *, limit: int, view: ListingView, which: str = "newest"
) -> None:
    """Print the first `limit` items of a resource, which are the newest ones unless `which` says otherwise.

    If the daemon is lost on the way, what has been received is printed, and then its error raised.
    """
    resource = view.listing.name
    with Session(daemon) as session:
        found, broken_off = taken(pages(session, resource, wanted), limit + 1)
    if broken_off is not None and not found:
        raise broken_off
    more = len(found) > limit
    del found[limit:]
    view.show(found)
    if more:
        output.say(f"the {which} {limit}; --limit shows more")
    if broken_off is not None:
        output.say(f"the list ends early, after {len(found)}")
        raise broken_off
