"""Plans a sync with the customer's rows: which bindings to add, update and remove, and when to withhold removals.

Rows are added one by one, so that a long read can yield to the event loop; only differences are kept. A binding that
was registered over the API is never changed by the source, nor is one whose row is invalid.

Additions and updates are independent of each other. Removals are guarded, because a broken query looks like a customer
who ended many bindings: they are all applied or all withheld. Only bindings that may still be dialled count for the
guard; expired ones may be removed at any time. A row whose binding has already expired and is unknown is not added.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from enum import StrEnum

from precall.core.model import Binding
from precall.core.sync.columns import ORIGIN, BadRow

FREE_REMOVALS = 9
"""Number of removals that is always allowed."""
EXAMPLES = 20
"""Maximum number of refused rows shown."""


class SyncOutcome(StrEnum):
    """The outcome for a row of the source, or for a binding that came from it. A closed set."""

    ADDED = "added"
    UPDATED = "updated"
    UNCHANGED = "unchanged"
    REMOVED = "removed"
    WITHHELD = "withheld"
    EXPIRED = "expired"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class SyncPlan:
    """The plan of a sync.

    `withheld` are the live bindings whose removal is refused, and `guard` is the reason ("" if none is). `refused`
    counts rows, of which `examples` are the first. `expired` counts rows of unknown bindings that have ended. `unsound`
    are bindings whose row is refused now but was accepted by an earlier version: they must not be dialled unchanged.
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

    def without(self, subs_ids: Collection[str]) -> "SyncPlan":
        """The plan without these bindings, of which something newer is known."""
        return replace(
            self,
            added=_others(self.added, subs_ids),
            updated=_others(self.updated, subs_ids),
            unsound=_others(self.unsound, subs_ids),
            removed=tuple(one for one in self.removed if one not in subs_ids),
            withheld=tuple(one for one in self.withheld if one not in subs_ids),
        )

    def counts(self) -> dict[SyncOutcome, int]:
        """The number of rows or bindings by outcome."""
        return {
            SyncOutcome.ADDED: len(self.added),
            SyncOutcome.UPDATED: len(self.updated),
            SyncOutcome.UNCHANGED: self.unchanged,
            SyncOutcome.REMOVED: len(self.removed),
            SyncOutcome.WITHHELD: len(self.withheld),
            SyncOutcome.EXPIRED: self.expired,
            SyncOutcome.REFUSED: self.refused,
        }


def _others(bindings: tuple[Binding, ...], subs_ids: Collection[str]) -> tuple[Binding, ...]:
    return tuple(binding for binding in bindings if binding.subs_id not in subs_ids)


class Comparison:
    """Compares the rows of the source with the bindings: `add_row` all rows, `add_binding` all bindings, then `plan`.

    Without `add_binding`, the rows need not be all, and nothing is removed.

    `current` returns the binding of an id; `expired` tells whether a binding has ended by its own `expires_at`.
    """

    def __init__(self, current: Callable[[str], Binding | None], expired: Callable[[Binding], bool]) -> None:
        self._current, self._has_expired = current, expired
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

    def add_row(self, row: Binding | BadRow) -> None:
        """Add a row of the source."""
        self._rows += 1
        if isinstance(row, BadRow):
            if row.subs_id:
                self._seen.setdefault(row.subs_id, 0)
            self._unreadable += row.subs_id is None
            if row.subs_id and row.unsound:
                self._mark_unsound(row.subs_id)
            self._refuse(row)
            return
        digest = hash(row) or 1
        before = self._seen.get(row.subs_id, 0)
        if row.subs_id in self._unsound:
            self._contest(row.subs_id)
        elif not before:
            self._seen[row.subs_id] = digest
            self._compare(row)
        elif before != digest and row.subs_id not in self._contested:
            self._contest(row.subs_id)

    def add_binding(self, binding: Binding, *, live: bool) -> None:
        """Add an existing binding, once all rows are added; `live` when it may still be dialled."""
        if binding.origin != ORIGIN:
            return
        self._owned += live
        if binding.subs_id not in self._seen:
            self._gone.append(binding.subs_id)
            if live:
                self._gone_live.append(binding.subs_id)

    def plan(self, max_removals: float, *, force: bool = False) -> SyncPlan:
        """The plan, if a sync may remove this share (0 to 1) of the live bindings, or with `force` any share."""
        guard = "" if force else self._guard(max_removals)
        changed = {
            kind: tuple(binding for outcome, binding in self._changed.values() if outcome is kind)
            for kind in (SyncOutcome.ADDED, SyncOutcome.UPDATED)
        }
        withheld = tuple(self._gone_live) if guard else ()
        return SyncPlan(
            added=changed[SyncOutcome.ADDED],
            updated=changed[SyncOutcome.UPDATED],
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
            if self._has_expired(row):
                self._expired.add(row.subs_id)
            else:
                self._changed[row.subs_id] = SyncOutcome.ADDED, row
        elif current.origin != ORIGIN:
            text = "is registered over the API; remove it there to let the source manage it"
            self._refuse(BadRow(row.subs_id, "subs_id", text))
        elif replace(row, registered_at=current.registered_at, generation=current.generation) == current:
            self._unchanged.add(row.subs_id)
        else:
            self._changed[row.subs_id] = SyncOutcome.UPDATED, row

    def _mark_unsound(self, subs_id: str) -> None:
        """Mark the existing binding, which an earlier version may have made from this row."""
        current = self._current(subs_id)
        known = current is not None and current.origin == ORIGIN and current.sound
        self._unsound[subs_id] = replace(current, sound=False) if known and current is not None else None
        self._changed.pop(subs_id, None)
        self._unchanged.discard(subs_id)

    def _contest(self, subs_id: str) -> None:
        """Leave the binding unchanged, since either of two different rows may be the right one."""
        self._contested.add(subs_id)
        self._changed.pop(subs_id, None)
        self._unchanged.discard(subs_id)
        self._expired.discard(subs_id)
        self._refuse(BadRow(subs_id, "subs_id", "appears in two rows that differ"))

    def _refuse(self, row: BadRow) -> None:
        self._refused += 1
        if len(self._examples) < EXAMPLES:
            self._examples.append(row)

    def _guard(self, max_removals: float) -> str:
        gone = len(self._gone_live)
        if not self._rows:
            return "the query returned no rows"
        if self._unreadable:
            return f"{self._unreadable} rows have an unreadable subs_id and may belong to known bindings"
        if gone > FREE_REMOVALS and gone > max_removals * self._owned:
            return f"{gone} of {self._owned} live bindings left the source (max_removals = {max_removals:g})"
        return ""
