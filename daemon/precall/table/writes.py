"""What authors ask of the writer, and what one of its transactions carries. Values; `writer` acts on them."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar, cast

from precall.core.model import Change, Check, Row, WriteCause
from precall.core.planning.sample import DialRecord

V = TypeVar("V")


@dataclass(frozen=True, slots=True)
class Amendment(Generic[V]):
    """What an author makes of a row: the row as it must stand, and the author's own verdict.

    The same row object means no change, None removes the row. Once published, it holds the row readers see.
    """

    row: Row | None
    verdict: V


Amend = Callable[[Row | None, int], Amendment[V]]
"""(the row as it stands, the index this change would get) -> the amendment. It may raise to refuse the whole group."""


@dataclass(slots=True)
class Write(Generic[V]):
    """One request to change one row. `done` gives the published amendment, or the error that refused it."""

    subs_id: str
    cause: WriteCause
    amend: Amend[V]
    done: "asyncio.Future[Amendment[V]]"
    check: Check | None = None
    verdict: V | None = None

    @property
    def refusable(self) -> bool:
        """Whether its author can come again. The provider cannot: what it said must be acted on."""
        return self.cause is not WriteCause.CHECKED

    def settle(self, row: Row | None) -> None:
        """Hand the published row to the author, unless the author no longer waits."""
        if not self.done.done():
            self.done.set_result(Amendment(row, cast("V", self.verdict)))

    def refuse(self, error: Exception) -> None:
        """Hand the error to the author, unless the author no longer waits."""
        if not self.done.done():
            self.done.set_exception(error)


@dataclass(slots=True)
class WriteBatch:
    """What one transaction makes of whole groups. A write without a change waits too: the row it found may be one
    that this transaction is to store."""

    groups: list[list[Write[Any]]] = field(default_factory=list)
    items: list[tuple[Write[Any], Change | None]] = field(default_factory=list)
    amended: dict[str, Row | None] = field(default_factory=dict)

    @property
    def changes(self) -> list[Change]:
        """What it changes, in order."""
        return [change for _, change in self.items if change is not None]


@dataclass(frozen=True, slots=True)
class UnchangedChecks:
    """Checks that changed nothing, on their way to the database, with the rows they refreshed and dial log lines."""

    checks: list[Check] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    refreshed: list[tuple[str, int]] = field(default_factory=list)
    dials: list[DialRecord] = field(default_factory=list)
