"""What waits for the database, within a bound: checks that changed nothing, and, in an outage, published changes.

The writer decides when either is stored.
"""

from collections.abc import Sequence
from dataclasses import replace
from itertools import islice

from precall.core.model import Change, Check
from precall.core.planning.sample import DialRecord
from precall.table.writes import UnchangedChecks

BACKLOG = 50_000
CHECKS = 200_000


class UnsavedChecks:
    """Checks that changed nothing, the rows they refreshed, and lines of the dial log."""

    def __init__(self) -> None:
        self.checks: list[Check] = []
        self.dials: list[DialRecord] = []
        self._refreshed: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self.checks) + len(self.dials) + len(self._refreshed)

    def keep(self, check: Check, *, refreshed: bool) -> None:
        """Add a check."""
        self.checks.append(check)
        if refreshed:
            self._refreshed[check.subs_id] = check.seq

    def renew(self, subs_id: str, seq: int) -> None:
        """Add a row to be stored as it is now."""
        self._refreshed[subs_id] = seq

    def head(self, most: int) -> UnchangedChecks:
        """Return the first of each kind; the rows are added by the writer."""
        return UnchangedChecks(
            self.checks[:most],
            refreshed=list(islice(self._refreshed.items(), most)),
            dials=self.dials[:most],
        )

    def stored(self, unchanged: UnchangedChecks) -> None:
        """Remove what `head` gave and the database took."""
        del self.checks[: len(unchanged.checks)]
        del self.dials[: len(unchanged.dials)]
        for subs_id, seq in unchanged.refreshed:
            if self._refreshed.get(subs_id) == seq:
                del self._refreshed[subs_id]

    def bound(self) -> int:
        """Let go of the oldest that no longer fit; how many checks went."""
        del self.dials[:-CHECKS]
        excess = max(0, len(self.checks) - CHECKS)
        del self.checks[:excess]
        return excess


class UnsavedChanges:
    """Published changes in order. Beyond the limit only the newest of each binding is kept, so the table is stored
    whole while its history has gaps. `late` counts changes stored since the outage began, `folded` those dropped."""

    def __init__(self, limit: int = BACKLOG) -> None:
        self._changes: list[Change] = []
        self._limit = limit
        self._undoing = 0
        self.late = self.folded = 0

    def __len__(self) -> int:
        return len(self._changes)

    def begin(self) -> None:
        """Start counting: an outage has begun."""
        self.late = self.folded = 0

    def append(self, change: Change) -> None:
        """Add a published change."""
        self._changes.append(change)

    def keep_together(self) -> None:
        """Require that all changes up to now are stored in one transaction: they undo what may be stored."""
        self._undoing = len(self._changes)

    def head(self, most: int) -> list[Change]:
        """Return the first of each kind; the rows are added by the writer."""
        return list(islice(self._changes, max(most, self._undoing)))

    def stored(self, changes: Sequence[Change]) -> set[str]:
        """Remove what `head` gave and the database took."""
        del self._changes[: len(changes)]
        self._undoing = 0
        self.late += len(changes)
        return {change.subs_id for change in changes} - {change.subs_id for change in self._changes}

    def bound(self) -> None:
        """Let go of what no longer fits: all but each binding's newest."""
        if len(self._changes) <= self._limit:
            return
        first, later = self._changes[: self._undoing], self._changes[self._undoing :]
        newest: dict[str, Change] = {}
        for change in later:
            # What is left writes all that the changes it stands for would have written.
            older = newest.pop(change.subs_id, change)
            newest[change.subs_id] = replace(change, columns=older.columns | change.columns)
        self._changes = [*first, *newest.values()]
        self.folded += len(later) - len(newest)
