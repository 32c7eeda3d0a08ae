"""What happened to one binding: answers, route changes, calls, exposures and orders, merged, newest first.

Each record is read in its own order, from its own place. The newest head of all comes next.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Self

from precall.api.access.authenticator import Client
from precall.api.handlers import orders
from precall.api.problems import Code
from precall.api.schemas.bindings import encode_change, encode_run
from precall.api.schemas.calls import encode_call
from precall.api.schemas.exposures import encode_exposure
from precall.core.errors import Refusal
from precall.core.model import Binding
from precall.engine.services import Services
from precall.store import AuditFilter, OrderFilter

_PLACE = re.compile(
    r"([0-9]{1,18})\.([0-9]{1,18})\.([0-9]{1,18})\.([0-9]{1,18})(?:\.([0-9]{1,12}(?:\.[0-9]{1,9})?)~([!-~]{1,128}))?",
    re.ASCII,
)
_BEGINNING = 10**18 - 1
"""A number above those of all records."""


@dataclass(frozen=True, slots=True)
class TimelinePlace:
    """How far the records have been shown: the last run, change, order and exposure by number, and the last call."""

    run: int = _BEGINNING
    change: int = _BEGINNING
    order: int = _BEGINNING
    exposure: int = _BEGINNING
    call: tuple[float, str] | None = None

    @classmethod
    def read(cls, cursor: str) -> Self:
        """Return the place that a cursor names, the beginning for "". Raises Refusal (400)."""
        if not cursor:
            return cls()
        if not (match := _PLACE.fullmatch(cursor)):
            raise Refusal(400, Code.INVALID_CURSOR, "is not a cursor of this list", "cursor")
        run, change, order, exposure, at, call_id = match.groups()
        call = (float(at), call_id) if at else None
        return cls(int(run), int(change), int(order), int(exposure), call)

    @property
    def cursor(self) -> str:
        """The place as a text."""
        call = f".{self.call[0]!r}~{self.call[1]}" if self.call else ""
        return f"{self.run}.{self.change}.{self.order}.{self.exposure}{call}"


@dataclass(frozen=True, slots=True)
class TimelineEntry:
    """One entry: `kind` names the record, `facts` are those of the API, `at` is in Unix seconds."""

    kind: str
    at: float
    facts: Mapping[str, Any]
    pass_by: Callable[[TimelinePlace], TimelinePlace] = field(repr=False)
    """Returns the place behind this entry."""


async def timeline(
    services: Services, client: Client, binding: Binding, cursor: str, limit: int
) -> tuple[list[TimelineEntry], str]:
    """Return at most `limit` entries after `cursor`, and the cursor of the next page, "" at the end.

    Exposures are shown to clients with scope `admin` alone. Raises Refusal (400) and StoreUnavailable.
    """
    place = TimelinePlace.read(cursor)
    records = await _records(services, client, binding, place, limit + 1)
    shown = list[TimelineEntry]()
    while len(shown) < limit and (heads := [record[0] for record in records if record]):
        newest = max(heads, key=lambda entry: entry.at)
        shown.append(newest)
        place = newest.pass_by(place)
        records = [record[1:] if record and record[0] is newest else record for record in records]
    return shown, place.cursor if any(records) else ""


async def _records(
    services: Services, client: Client, binding: Binding, place: TimelinePlace, limit: int
) -> list[Sequence[TimelineEntry]]:
    """Return at most `limit` entries of each record after a place, each record newest first."""
    store, subs_id = services.store, binding.subs_id
    runs, changes = await store.history(subs_id, before=(place.run, place.change), limit=limit)
    concerning = OrderFilter(concerns=(subs_id, binding.pool_key))
    given = await services.orders.page(concerning, limit=limit, before_id=place.order)
    calls = await store.calls.page(before=place.call, limit=limit, subs_id=subs_id)
    exposed = list[dict[str, Any]]()
    if client.admin:
        audit = AuditFilter(subs_id=subs_id)
        exposed = await store.exposures(limit=limit, before_id=place.exposure, wanted=audit)
    return [
        [
            TimelineEntry("answer", run["last_at"], encode_run(run), _behind(run=run["first_seq"]))
            for run in runs
        ],
        [
            TimelineEntry("change", one["at"], encode_change(one), _behind(change=one["index"]))
            for one in changes
        ],
        [
            TimelineEntry("order", listed.order.at, facts, _behind(order=listed.order.id))
            for listed, facts in zip(given, orders.shown(given, client), strict=True)
        ],
        [
            TimelineEntry(
                "call", call.called_at, encode_call(call), _behind(call=(call.called_at, call.call_id))
            )
            for call in calls
        ],
        [
            TimelineEntry("exposure", row["last_at"], encode_exposure(row), _behind(exposure=row["id"]))
            for row in exposed
        ],
    ]


def _behind(**reached: Any) -> Callable[[TimelinePlace], TimelinePlace]:
    return lambda place: replace(place, **reached)
