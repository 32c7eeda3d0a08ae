"""Requests to the writer, and the contents of one of its transactions, as values."""

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar, cast

from precall.core.model import Change, Check, Row, WriteCause
from precall.core.orders import Order
from precall.core.planning.sample import DialRecord

V = TypeVar("V")


@dataclass(frozen=True, slots=True)
class Amendment(Generic[V]):
    """The result of an `Amend`: the new row, and a verdict for the author of the write.

    The same row object means no change; None removes the row. After publication, `row` is the row that readers see.
    `order` is the operator's order that a change carries out, if any; it is stored with the change.
    """

    row: Row | None
    verdict: V
    order: Order | None = None


Amend = Callable[[Row | None, int], Amendment[V]]
"""(current row, index of the change if there is one) -> the amendment. It may raise, to refuse the whole group."""


@dataclass(slots=True)
class Write(Generic[V]):
    """One request to change one row. `done` receives the published amendment, or the error."""

    subs_id: str
    cause: WriteCause
    amend: Amend[V]
    done: "asyncio.Future[Amendment[V]]"
    check: Check | None = None
    verdict: V | None = None

    @property
    def refusable(self) -> bool:
        """Whether the write may be refused. Its author can repeat a request, but not an answer of the provider."""
        return self.cause is not WriteCause.CHECKED

    def settle(self, row: Row | None) -> None:
        """Pass the published row to the author, unless the author no longer waits."""
        if not self.done.done():
            self.done.set_result(Amendment(row, cast("V", self.verdict)))

    def refuse(self, error: Exception) -> None:
        """Pass the error to the author, unless the author no longer waits."""
        if not self.done.done():
            self.done.set_exception(error)


class PendingAnswers:
    """Ids of the bindings for which an answer of the provider is submitted and not published yet."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()

    def __contains__(self, subs_id: str) -> bool:
        return subs_id in self._counts

    def add(self, write: Write[Any]) -> None:
        """Count this write until it is settled, if it is an answer."""
        if write.cause is WriteCause.CHECKED:
            self._counts[write.subs_id] += 1
            write.done.add_done_callback(lambda _: self._end(write.subs_id))

    def _end(self, subs_id: str) -> None:
        self._counts[subs_id] -= 1
        if not self._counts[subs_id]:
            del self._counts[subs_id]


@dataclass(slots=True)
class WriteBatch:
    """Whole groups of writes that share one transaction.

    A write without a change is part of it, too: it may have read a row that this transaction will store.
    """

    groups: list[list[Write[Any]]] = field(default_factory=list)
    items: list[tuple[Write[Any], Change | None]] = field(default_factory=list)
    amended: dict[str, Row | None] = field(default_factory=dict)

    @property
    def changes(self) -> list[Change]:
        """The changes to store, in order."""
        return [change for _, change in self.items if change is not None]


@dataclass(frozen=True, slots=True)
class UnchangedChecks:
    """A batch of checks that changed nothing, rows they refreshed, and lines of the dial log.

    `refreshed` has (subs_id, seq of the observation) for each of `rows`.
    """

    checks: list[Check] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    refreshed: list[tuple[str, int]] = field(default_factory=list)
    dials: list[DialRecord] = field(default_factory=list)


def refusable(group: list[Write[Any]]) -> bool:
    """Return whether a group may be refused; see `Write.refusable`."""
    return group[0].refusable


def left_pool(before: Row | None, after: Row | None) -> str:
    """Return the pool that a binding leaves, or "" if it stays in its pool or is removed."""
    if before is None or after is None or before.binding.pool_key == after.binding.pool_key:
        return ""
    return before.binding.pool_key
