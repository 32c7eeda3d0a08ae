"""What authors wish of the ledger, and what one of its transactions carries. Values; `ledger` acts on them."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from precall.core.model import Change, Check, Row, WriteCause
from precall.core.planning.sample import DialRecord

Amend = Callable[[Row | None, int], Row | None]
"""(the row as it stands, the index this change would get) -> the row as it must stand; the same object: no change."""


@dataclass(slots=True)
class Write:
    """One wish to change one row; `done` holds the published row, or the error that refused it."""

    subs_id: str
    cause: WriteCause
    amend: Amend
    done: "asyncio.Future[Row | None]"
    check: Check | None = None

    @property
    def refusable(self) -> bool:
        """Whether its author can be told to come again. The provider cannot: what it said must be acted on."""
        return self.cause is not WriteCause.CHECKED

    def settle(self, row: Row | None) -> None:
        """Tell its author, who may have gone meanwhile."""
        if not self.done.done():
            self.done.set_result(row)

    def refuse(self, error: Exception) -> None:
        """Tell its author, who may have gone meanwhile."""
        if not self.done.done():
            self.done.set_exception(error)


@dataclass(slots=True)
class WriteBatch:
    """What one transaction makes of whole groups. An intent without a change waits too: the row it found may be one
    that this transaction is to store."""

    groups: list[list[Write]] = field(default_factory=list)
    items: list[tuple[Write, Change | None]] = field(default_factory=list)
    amended: dict[str, Row | None] = field(default_factory=dict)

    @property
    def changes(self) -> list[Change]:
        """What it changes, in order."""
        return [change for _, change in self.items if change is not None]


@dataclass(frozen=True, slots=True)
class UnchangedChecks:
    """Observations that changed nothing, on their way to the database: checks, rows, and whose check refreshed them."""

    checks: list[Check] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    refreshed: list[tuple[str, int]] = field(default_factory=list)
    dials: list[DialRecord] = field(default_factory=list)
