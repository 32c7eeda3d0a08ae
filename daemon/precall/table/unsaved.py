"""Bounded queues for the database: checks that changed nothing, and changes published during an outage.

The writer decides when they are stored.
"""

from collections.abc import Sequence
from dataclasses import replace
from itertools import islice

from precall.core.model import Change, Check
from precall.core.planning.sample import DialRecord
from precall.table.writes import UnchangedChecks

BACKLOG = 50_000
"""Maximum number of queued changes. Beyond it, only the newest of each binding is kept."""
CHECKS = 200_000
"""Maximum number of queued checks, and of dial log lines."""


class BatchSize:
    """How many entries to store at once: half as many after an attempt that failed, twice as many after a success.

    A database that is too slow for the queue would otherwise be given up each time, while the queue grows.
    """

    def __init__(self, most: int) -> None:
        self.value = self._most = most

    def failed(self) -> None:
        """Try half as many next time."""
        self.value = max(1, self.value // 2)

    def succeeded(self) -> None:
        """Try twice as many next time."""
        self.value = min(self._most, 2 * self.value)


class UnsavedChecks:
    """Checks that changed nothing, ids of the rows they refreshed, and lines of the dial log."""

    def __init__(self) -> None:
        self.checks: list[Check] = []
        self.dials: list[DialRecord] = []
        self._refreshed: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self.checks) + len(self.dials) + len(self._refreshed)

    def keep(self, check: Check, *, refreshed: bool) -> None:
        """Add a check. `refreshed`: its row must be stored, too."""
        self.checks.append(check)
        if refreshed:
            self._refreshed[check.subs_id] = check.seq

    def renew(self, subs_id: str, seq: int) -> None:
        """Add a row to be stored. `seq` identifies its current observation."""
        self._refreshed[subs_id] = seq

    def head(self, most: int) -> UnchangedChecks:
        """Return the first `most` entries of each kind. The writer adds the rows."""
        return UnchangedChecks(
            self.checks[:most],
            refreshed=list(islice(self._refreshed.items(), most)),
            dials=self.dials[:most],
        )

    def stored(self, unchanged: UnchangedChecks) -> None:
        """Remove entries returned by `head` that are now in the database."""
        del self.checks[: len(unchanged.checks)]
        del self.dials[: len(unchanged.dials)]
        for subs_id, seq in unchanged.refreshed:
            if self._refreshed.get(subs_id) == seq:
                del self._refreshed[subs_id]

    def drop_excess(self) -> int:
        """Drop the oldest entries above the limit. Return the number of checks dropped."""
        del self.dials[:-CHECKS]
        excess = max(0, len(self.checks) - CHECKS)
        del self.checks[:excess]
        return excess


class UnsavedChanges:
    """Published changes that are not in the database yet, in order.

    Beyond the limit only the newest change of each binding is kept. The table is then stored completely, but its
    history has gaps. `late` counts the changes stored since the outage began, `folded` those dropped.
    """

    def __init__(self, limit: int = BACKLOG) -> None:
        self._changes: list[Change] = []
        self._limit = limit
        self._undoing = 0
        self.late = self.folded = 0

    def __len__(self) -> int:
        return len(self._changes)

    def begin(self) -> None:
        """Reset the counters at the beginning of an outage."""
        self.late = self.folded = 0

    def append(self, change: Change) -> None:
        """Add a published change."""
        self._changes.append(change)

    def keep_together(self) -> None:
        """Require that all queued changes are stored in one transaction. They undo a commit of unknown outcome."""
        self._undoing = len(self._changes)

    def head(self, most: int) -> list[Change]:
        """Return the first `most` changes, or more if they must be stored together."""
        return list(islice(self._changes, max(most, self._undoing)))

    def stored(self, changes: Sequence[Change]) -> set[str]:
        """Remove changes returned by `head` that are now in the database. Return the ids with no change left."""
        del self._changes[: len(changes)]
        self._undoing = 0
        self.late += len(changes)
        return {change.subs_id for change in changes} - {change.subs_id for change in self._changes}

    def drop_excess(self) -> None:
        """Above the limit, drop all changes but the newest of each binding."""
        if len(self._changes) <= self._limit:
            return
        first, later = self._changes[: self._undoing], self._changes[self._undoing :]
        newest: dict[str, Change] = {}
        for change in later:
            # The remaining change writes every column that the dropped ones would have written.
            older = newest.pop(change.subs_id, change)
            newest[change.subs_id] = replace(change, columns=older.columns | change.columns)
        self._changes = [*first, *newest.values()]
        self.folded += len(later) - len(newest)
