"""What waits for the database, with a bound: notes of checks that changed nothing, and, while it is away, changes that
readers were told already. When either is stored is the `ledger`'s part.
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
    """Checks that changed nothing, which rows they refreshed, and lines of the log of dials."""

    def __init__(self) -> None:
        self.checks: list[Check] = []
        self.dials: list[DialRecord] = []
        self._refreshed: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self.checks) + len(self.dials) + len(self._refreshed)

    def keep(self, check: Check, *, refreshed: bool) -> None:
        """One more check."""
        self.checks.append(check)
        if refreshed:
            self._refreshed[check.subs_id] = check.seq

    def renew(self, subs_id: str, seq: int) -> None:
        """One more row is to be stored as it stands."""
        self._refreshed[subs_id] = seq

    def head(self, most: int) -> UnchangedChecks:
        """The first of each, the rows aside."""
        return UnchangedChecks(
            self.checks[:most],
            refreshed=list(islice(self._refreshed.items(), most)),
            dials=self.dials[:most],
        )

    def stored(self, unchanged: UnchangedChecks) -> None:
        """Those of `head` were taken."""
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
    """Changes in their order. Past the limit only the newest of each binding is kept, so that the table comes out whole
    while its history has gaps. `late` counts what was stored since the database went, `folded` what the bound took."""

    def __init__(self, limit: int = BACKLOG) -> None:
        self._changes: list[Change] = []
        self._limit = limit
        self._undoing = 0
        self.late = self.folded = 0

    def __len__(self) -> int:
        return len(self._changes)

    def begin(self) -> None:
        """The database has gone."""
        self.late = self.folded = 0

    def append(self, change: Change) -> None:
        """One more was told."""
        self._changes.append(change)

    def keep_together(self) -> None:
        """All there is by now is stored in one transaction: it undoes what may be stored."""
        self._undoing = len(self._changes)

    def head(self, most: int) -> list[Change]:
        """The first `most`, or as many as must be stored together."""
        return list(islice(self._changes, max(most, self._undoing)))

    def stored(self, changes: Sequence[Change]) -> set[str]:
        """Those of `head` were taken. Gives the bindings of which nothing more waits."""
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
