"""A row of the table in as few bytes as will do: a million of them are kept, and few are looked at.

As slotted objects a row takes some 750 bytes and is walked by every full garbage collection; packed it takes about
190, in one object the collector does not know. `marshal` serves because the bytes never leave this process.
"""

from collections.abc import Callable
from dataclasses import fields
from marshal import dumps, loads
from operator import attrgetter
from typing import Any, NamedTuple

from precall.core.ages import SMALLEST_STEP, backdate
from precall.core.model import Action, Binding, BindingState, NumberRole, Override, Row, State

FACTS = tuple(field.name for field in fields(Binding) if field.name != "subs_id")
OBSERVED = tuple(field.name for field in fields(BindingState) if field.name != "state")
ORDERED = tuple(field.name for field in fields(Override))
_facts, _observed, _ordered = attrgetter(*FACTS), attrgetter(*OBSERVED), attrgetter(*ORDERED)
_STATES = {state.value: state for state in State}

_RARE = slice(OBSERVED.index("temp_number"), OBSERVED.index("request_id"))
"""What most rows have never had: a temporary number, an exposure, a failure ..."""
_NEVER = _observed(BindingState())[_RARE]


class Packed(NamedTuple):
    """A packed row with its id, and what the table files it under. `usable`: all its numbers may be dialled."""

    subs_id: str
    pool_key: str
    number_x: str
    state: State
    blocked: bool
    data: bytes
    usable: bool = True

    def __repr__(self) -> str:
        return f"Packed({self.subs_id}, pool={self.pool_key}, {self.state})"

    @property
    def row(self) -> Row:
        """The row that was packed."""
        return unpack(self.subs_id, self.data)


def pack(row: Row, lead: float = 0.0) -> bytes:
    """The row without its id, which is the key it is kept under. `lead`: by how many seconds the clock is ahead that
    stamped it."""
    override = row.override
    order = (
        None if override is None else (override.action.value, override.means.value, *_ordered(override)[2:])
    )
    return wrap(
        _facts(row.binding), row.state.state.value, _observed(row.state), order, row.version, row.index, lead
    )


def wrap(
    facts: tuple[Any, ...],
    state: str,
    observed: tuple[Any, ...],
    order: tuple[Any, ...] | None,
    version: int,
    index: int,
    lead: float = 0.0,
) -> bytes:
    """The same of the values that `FACTS`, `OBSERVED` and `ORDERED` name, for who has no row and needs none."""
    rare = observed[_RARE]
    kept = None if rare == _NEVER else rare
    begun, ended = observed[: _RARE.start], observed[_RARE.stop]
    return dumps((facts, state, begun, kept, ended, order, version, index, lead or None))


def unpack(subs_id: str, packed: bytes, lead: Callable[[], float] | None = None) -> Row:
    """The row that was packed. `lead` gives by how much the clock is ahead now. Where that is less than when the row
    was stamped, the clock was set back since, and the row is as much older than its stamps say."""
    facts, state, observed, rare, request_id, order, version, index, ahead = loads(packed)  # noqa: S302  our own bytes
    seen = (*observed, *(rare or _NEVER), request_id)
    row = Row(
        Binding(subs_id, *facts),
        BindingState(_STATES[state], *seen),
        None if order is None else Override(Action(order[0]), NumberRole(order[1]), *order[2:]),
        version,
        index,
    )
    if ahead is not None and lead is not None and (excess := ahead - lead()) >= SMALLEST_STEP:
        return backdate(row, excess)
    return row


def lead_of(packed: bytes) -> float:
    """By how many seconds the clock was ahead that stamped this row."""
    ahead: float | None = loads(packed)[-1]  # noqa: S302  our own bytes
    return ahead or 0.0
