"""What a sync makes of the customer's rows: which bindings to add, update and remove, and which removals to refuse.

Rows are taken one by one, so that a long read can share the loop; only what differs is kept. Bindings that somebody
registered over the API are left alone, whatever the source says, and so are those whose row is no good.

Additions and updates stand by themselves. Removals are guarded, because a query that went wrong looks like a customer
who ended his bindings: they are all applied, or all withheld. Only bindings that may still be dialled count for the
guard; a customer may clear away expired ones at any time. A binding that is over already and not known is not taken in.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum

from precall.core.model import Binding
from precall.core.sync.columns import ORIGIN, BadRow

FREE_REMOVALS = 9
"""So many removals are never refused."""
EXAMPLES = 20


class SyncOutcome(StrEnum):
    """What became of a row of the source, or of a binding that came from it. A closed set."""

    ADDED = "added"
    UPDATED = "updated"
    UNCHANGED = "unchanged"
    REMOVED = "removed"
    WITHHELD = "withheld"
    EXPIRED = "expired"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class SyncPlan:
    """What to do. `withheld` are the live bindings whose removal is refused, `guard` says why ("" when none is).

    `refused` counts rows; `examples` are the first of them. `expired` counts rows of bindings that are over and not
    known. `unsound` are bindings made from a row that an earlier version took and that is refused now: they must not be
    dialled as they stand.
    """

    added: tuple[Binding, ...] = ()
    updated: tuple[Binding, ...] = ()
    removed: tuple[str, ...] = ()
    withheld: tuple[str, ...] = ()
    unchanged: int = 0
    expired: int = 0
    refused: int = 0
    examples: tuple[BadRow, ...] = ()
    guard: str = ""
    unsound: tuple[Binding, ...] = ()

    @property
    def guarded(self) -> bool:
        """Whether removals are refused."""
        return bool(self.withheld)

    def counts(self) -> dict[SyncOutcome, int]:
        """How many of each fate."""
        return {
            SyncOutcome.ADDED: len(self.added),
            SyncOutcome.UPDATED: len(self.updated),
            SyncOutcome.UNCHANGED: self.unchanged,
            SyncOutcome.REMOVED: len(self.removed),
            SyncOutcome.WITHHELD: len(self.withheld),
            SyncOutcome.EXPIRED: self.expired,
            SyncOutcome.REFUSED: self.refused,
        }


class Comparison:
    """The rows of the source beside the bindings there are: `take` every row, `pass_by` every binding, then `plan`.

    `current` gives the binding of an id, `over` says that a binding has ended by its own `expires_at`.
    """

    def __init__(self, current: Callable[[str], Binding | None], over: Callable[[Binding], bool]) -> None:
        self._current, self._over = current, over
        self._rows = 0
        self._seen: dict[str, int] = {}
        self._changed: dict[str, tuple[SyncOutcome, Binding]] = {}
        self._unchanged: set[str] = set()
        self._contested: set[str] = set()
        self._unsound: dict[str, Binding | None] = {}
        self._expired: set[str] = set()
        self._refused = 0
        self._unreadable = 0
        self._examples: list[BadRow] = []
        self._owned = 0
        self._gone: list[str] = []
        self._gone_live: list[str] = []

    def take(self, row: Binding | BadRow) -> None:
        """One row of the source."""
        self._rows += 1
        if isinstance(row, BadRow):
            if row.subs_id:
                self._seen.setdefault(row.subs_id, 0)
            self._unreadable += row.subs_id is None
            if row.subs_id and row.unsound:
                self._doubt(row.subs_id)
            self._refuse(row)
            return
        mark = hash(row) or 1
        before = self._seen.get(row.subs_id, 0)
        if row.subs_id in self._unsound:
            self._contest(row.subs_id)
        elif not before:
            self._seen[row.subs_id] = mark
            self._compare(row)
        elif before != mark and row.subs_id not in self._contested:
            self._contest(row.subs_id)

    def pass_by(self, binding: Binding, *, live: bool) -> None:
        """One binding there is, after all rows were taken. `live`: it may still be dialled."""
        if binding.origin != ORIGIN:
            return
        self._owned += live
        if binding.subs_id not in self._seen:
            self._gone.append(binding.subs_id)
            if live:
                self._gone_live.append(binding.subs_id)

    def plan(self, max_removals: float, *, force: bool = False) -> SyncPlan:
        """What to do, when one sync may remove this share of the live bindings; `force`: any."""
        guard = "" if force else self._guard(max_removals)
        by_fate = {
            fate: tuple(binding for found, binding in self._changed.values() if found is fate)
            for fate in (SyncOutcome.ADDED, SyncOutcome.UPDATED)
        }
        withheld = tuple(self._gone_live) if guard else ()
        return SyncPlan(
            added=by_fate[SyncOutcome.ADDED],
            updated=by_fate[SyncOutcome.UPDATED],
            removed=() if guard else tuple(self._gone),
            withheld=withheld,
            unchanged=len(self._unchanged),
            expired=len(self._expired),
            refused=self._refused,
            examples=tuple(self._examples),
            guard=guard if withheld else "",
            unsound=tuple(binding for binding in self._unsound.values() if binding is not None),
        )

    def _compare(self, row: Binding) -> None:
        current = self._current(row.subs_id)
        if current is None:
            if self._over(row):
                self._expired.add(row.subs_id)
            else:
                self._changed[row.subs_id] = SyncOutcome.ADDED, row
        elif current.origin != ORIGIN:
            text = "is registered over the API; remove it there, and the source will have it"
            self._refuse(BadRow(row.subs_id, "subs_id", text))
        elif replace(row, registered_at=current.registered_at, generation=current.generation) == current:
            self._unchanged.add(row.subs_id)
        else:
            self._changed[row.subs_id] = SyncOutcome.UPDATED, row

    def _doubt(self, subs_id: str) -> None:
        """The binding as it stands may come from this row, read by another rule."""
        current = self._current(subs_id)
        known = current is not None and current.origin == ORIGIN and current.sound
        self._unsound[subs_id] = replace(current, sound=False) if known and current is not None else None
        self._changed.pop(subs_id, None)
        self._unchanged.discard(subs_id)

    def _contest(self, subs_id: str) -> None:
        """Which of two rows is right cannot be told: the binding stays as it is."""
        self._contested.add(subs_id)
        self._changed.pop(subs_id, None)
        self._unchanged.discard(subs_id)
        self._expired.discard(subs_id)
        self._refuse(BadRow(subs_id, "subs_id", "stands in two rows that differ"))

    def _refuse(self, row: BadRow) -> None:
        self._refused += 1
        if len(self._examples) < EXAMPLES:
            self._examples.append(row)

    def _guard(self, max_removals: float) -> str:
        gone = len(self._gone_live)
        if not self._rows:
            return "the query gave no rows"
        if self._unreadable:
            return f"{self._unreadable} rows have a subs_id that cannot be read, and may be those of known bindings"
        if gone > FREE_REMOVALS and gone > max_removals * self._owned:
            return f"{gone} of {self._owned} live bindings left the source (max_removals = {max_removals:g})"
        return ""
