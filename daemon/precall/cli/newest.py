"""Lists that the API gives newest first, in pages: orders and exposures."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from precall.cli import output
from precall.cli.session import Session, taken
from precall.cli.target import Target

PAGE = 1000


def show_newest(
    daemon: Target,
    resource: str,
    wanted: Mapping[str, str],
    *,
    columns: Sequence[str],
    limit: int,
    as_json: bool,
) -> None:
    """Print the newest `limit` items of `/v1/{resource}` that match the filters `wanted`; empty ones are left out.

    If the daemon is lost on the way, what has been received is printed, and then its error raised.
    """
    params = {name: given for name, given in wanted.items() if given}
    found, broken_off = taken(_listed(daemon, resource, params), limit + 1)
    if broken_off is not None and not found:
        raise broken_off
    more = len(found) > limit
    del found[limit:]
    if as_json:
        output.data({resource: found})
    else:
        output.rows(columns, ([item.get(name, "") for name in columns] for item in found))
    if more:
        output.say(f"the newest {limit}; --limit shows more")
    if broken_off is not None:
        output.say(f"the list ends early, after {len(found)}")
        raise broken_off


def _listed(daemon: Target, resource: str, params: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    wanted = {**params, "limit": str(PAGE)}
    with Session(daemon) as session:
        while True:
            page = session.ask("GET", f"/v1/{resource}", params=wanted)
            yield from page[resource]
            if not page["cursor"]:
                return
            wanted["cursor"] = page["cursor"]
