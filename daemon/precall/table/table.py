"""The routing table in memory: reads are answered from it even when provider and database are down.

It holds published rows only, packed (see `core.packing`), and decides nothing. The writer changes rows; the checker
refreshes the observations of rows that did not change.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from sortedcontainers import SortedList

from precall.core.ages import SMALLEST_STEP
from precall.core.model import Row, State
from precall.core.numbers import canonical, key_of
from precall.core.packing import Packed, lead_of, pack, unpack
from precall.core.routing.route import sound

Listener = Callable[[Row | None, Row | None], None]
"""Called after each publication with the row before and after the change (None: no such row)."""


CHUNK = 500
"""Ids that `page` takes from the index at once."""


@dataclass(frozen=True, slots=True)
class TablePage:
    """A slice of the table in order of id. `cursor` continues after it; "" at the end."""

    rows: list[Row]
    cursor: str


class Table:
    """All published rows, by id and by X, in one process and one thread.

    `lead` returns by how many seconds the clock that stamps observations is ahead. After that clock is set back, rows
    stamped in the meantime are returned with corrected times.
    """

    def __init__(self, lead: Callable[[], float] = lambda: 0.0) -> None:
        self._lead = lead
        self.listeners: list[Listener] = []
        self.unsaved: set[str] = set()
        self.unusable: set[str] = set()
        self._rows: dict[str, bytes] = {}
        self._by_x: dict[int, str | list[str]] = {}
        self._active: Counter[str] = Counter()
        self._states: Counter[State] = Counter()
        self._by_pool: Counter[tuple[str, State]] = Counter()
        self._lapsed: set[str] = set()
        self._order: SortedList[str] = SortedList()

    def __len__(self) -> int:
        return len(self._rows)

    def get(self, subs_id: str) -> Row | None:
        """Return the published row, or None."""
        packed = self._rows.get(subs_id)
        return None if packed is None else unpack(subs_id, packed, self._lead)

    def rows(self) -> Iterator[Row]:
        """Iterate over all rows, in no order. Do not keep the iterator across an `await`."""
        return (unpack(subs_id, packed, self._lead) for subs_id, packed in self._rows.items())

    def load(self, rows: Iterable[Packed]) -> None:
        """Add stored rows without notifying listeners. Call this at start, before the first read."""
        for subs_id, pool_key, number_x, state, blocked, data, usable in rows:
            self._rows[subs_id] = data
            if not usable:
                self.unusable.add(subs_id)
            self._order.add(subs_id)
            self._link(number_x, subs_id)
            shown = State.BLOCKED if blocked and state is not State.EXPIRED else state
            self._states[shown] += 1
            if state is not State.EXPIRED:
                self._active[pool_key] += 1
                self._by_pool[pool_key, shown] += 1

    def publish(self, subs_id: str, row: Row | None) -> None:
        """Replace the published row by `row` (None: remove it), and notify the listeners."""
        before = self.get(subs_id)
        self._place(before, row)
        for listener in self.listeners:
            listener(before, row)

    def refresh(self, row: Row) -> None:
        """Replace the observation of a row that did not change. Listeners are not notified."""
        self._rows[row.binding.subs_id] = pack(row, self._stamped_by(row))

    def by_x(self, number_x: str) -> list[Row]:
        """Return the rows of all bindings registered on this X."""
        wanted = canonical(number_x)
        ids = self._by_x.get(key_of(number_x), [])
        known = [ids] if isinstance(ids, str) else ids
        rows = (row for subs_id in known if (row := self.get(subs_id)))
        return [row for row in rows if canonical(row.binding.number_x) == wanted]

    def active(self, pool_key: str) -> int:
        """Return the number of bindings of a pool that have not expired, as of the last sweep."""
        return self._active[pool_key]

    def count(self, state: State, pool_key: str = "") -> int:
        """Return the number of rows in this state, as of the last sweep. With a pool, expired ones are not counted."""
        return self._by_pool[pool_key, state] if pool_key else self._states[state]

    def restamp(self, subs_id: str) -> bool:
        """Store this row with the corrected times. Return whether they differ from the stored ones."""
        if lead_of(self._rows[subs_id]) - self._lead() < SMALLEST_STEP:
            return False
        if (row := self.get(subs_id)) is not None:
            self.refresh(row)
        return True

    def lapse(self, row: Row) -> None:
        """Count a row as expired, because it expired by the clock without an answer of the provider."""
        if row.binding.subs_id not in self._lapsed:
            self._count(row, -1)
            self._lapsed.add(row.binding.subs_id)
            self._count(row, +1)

    def revive(self, row: Row) -> None:
        """Count a row by its state again, after it lapsed by a clock that was ahead."""
        if row.binding.subs_id in self._lapsed:
            self._count(row, -1)
            self._lapsed.discard(row.binding.subs_id)
            self._count(row, +1)

    def pools(self) -> list[str]:
        """Return the keys of all pools with an active binding."""
        return [pool for pool, count in self._active.items() if count]

    def page(self, cursor: str, limit: int, keep: Callable[[Row], bool], scan: int = 5_000) -> TablePage:
        """Return at most `limit` rows after `cursor` that `keep` accepts, out of at most `scan` rows.

        A page may be short or even empty and still have a cursor: the scan is limited, because readers share the event
        loop.
        """
        found: list[Row] = []
        last = cursor
        while scan and (ids := self._ids_after(last, min(scan, CHUNK))):
            scan -= len(ids)
            for last in ids:
                row = self.get(last)
                if row is not None and keep(row):
                    found.append(row)
                    if len(found) == limit:
                        return TablePage(found, self._more(last))
        return TablePage(found, self._more(last))

    def slices(self, size: int) -> Iterator[Sequence[Row]]:
        """Iterate over the whole table in slices, in order of id.

        The caller may yield to the event loop in between. Rows added or removed in the meantime may be missed.
        """
        cursor = ""
        while ids := self._ids_after(cursor, size):
            cursor = ids[-1]
            yield [row for subs_id in ids if (row := self.get(subs_id))]

    def _more(self, cursor: str) -> str:
        return cursor if self._ids_after(cursor, 1) else ""

    def _place(self, before: Row | None, after: Row | None) -> None:
        if before is not None:
            self._count(before, -1)
            self._lapsed.discard(before.binding.subs_id)
        if after is not None:
            self._count(after, +1)
        if before is not None and (after is None or after.binding.number_x != before.binding.number_x):
            self._unlink(before)
        if after is not None:
            subs_id = after.binding.subs_id
            self._rows[subs_id] = pack(after, self._stamped_by(after))
            (self.unusable.discard if sound(after.binding) else self.unusable.add)(subs_id)
            if before is None:
                self._order.add(subs_id)
            if before is None or after.binding.number_x != before.binding.number_x:
                self._link(after.binding.number_x, subs_id)
        elif before is not None:
            del self._rows[before.binding.subs_id]
            self.unusable.discard(before.binding.subs_id)
            self._order.remove(before.binding.subs_id)

    def _stamped_by(self, row: Row) -> float:
        """Return by how many seconds the clock was ahead when it stamped the newest observation of this row."""
        lead = self._lead()
        before = self.get(row.binding.subs_id) if lead else None
        if before is None or _observation(before) != _observation(row):
            return lead
        return min(lead, lead_of(self._rows[row.binding.subs_id]))

    def _count(self, row: Row, step: int) -> None:
        over = row.state.state is State.EXPIRED or row.binding.subs_id in self._lapsed
        shown = State.EXPIRED if over else State.BLOCKED if row.state.blocked else row.state.state
        self._states[shown] += step
        if not over:
            self._active[row.binding.pool_key] += step
            self._by_pool[row.binding.pool_key, shown] += step

    def _link(self, number_x: str, subs_id: str) -> None:
        key = key_of(number_x)
        there = self._by_x.get(key)
        if there is None:
            self._by_x[key] = subs_id
        elif isinstance(there, str):
            self._by_x[key] = [there, subs_id]
        else:
            there.append(subs_id)

    def _ids_after(self, subs_id: str, limit: int) -> list[str]:
        """Return at most `limit` ids after `subs_id` ("": from the first), in order."""
        start = self._order.bisect_right(subs_id)
        ids: list[str] = self._order[start : start + limit]
        return ids

    def _unlink(self, row: Row) -> None:
        key, subs_id = key_of(row.binding.number_x), row.binding.subs_id
        there = self._by_x.get(key)
        if isinstance(there, list):
            there.remove(subs_id)
            if len(there) == 1:
                self._by_x[key] = there[0]
        else:
            self._by_x.pop(key, None)


def _observation(row: Row) -> tuple[int, float]:
    """Return a key that distinguishes one observation of a binding from the next."""
    return row.binding.generation, row.state.checked_at
