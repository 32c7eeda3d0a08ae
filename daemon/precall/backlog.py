"""Changes that readers were told and the database has not taken yet, in their order and with a bound.

Past the bound only the newest change of each binding is kept, so that the table comes out whole while its history has
gaps. When changes are told and when they are stored is the `ledger`'s part.
"""

from collections.abc import Sequence
from itertools import islice

from precall.core.model import Change

BACKLOG = 50_000


class Backlog:
    """`late` counts what was stored since the database went, `folded` what the bound took."""

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

    @property
    def newest(self) -> Change:
        """What was told last."""
        return self._changes[-1]

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
        newest = {change.subs_id: place for place, change in enumerate(later)}
        self._changes = first + [later[place] for place in sorted(newest.values())]
        self.folded += len(later) - len(newest)
