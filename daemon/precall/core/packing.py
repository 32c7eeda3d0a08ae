"""A compact in-memory form of table rows: up to a million are kept, and few are read at a time.

As slotted objects a row takes some 750 bytes and is traversed by every full garbage collection. Packed it takes about
190 bytes in a single object that the collector does not track. `marshal` is safe since the bytes never leave the
process.
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
"""Fields that are unset in most rows: the temporary number, the exposure, failures ..."""
_NEVER = _observed(BindingState())[_RARE]


class Packed(NamedTuple):
    """A packed row with its id and the fields the table indexes; `usable` when all its numbers may be dialled."""

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
    """Pack a row without its id, which is its key. `lead` is how far (s) the clock that stamped it is ahead."""
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
    """As `pack`, from the values of the fields in `FACTS`, `OBSERVED` and `ORDERED`; saves building a row."""
    rare = observed[_RARE]
    packed_rare = None if rare == _NEVER else rare
    begun, ended = observed[: _RARE.start], observed[_RARE.stop]
    return dumps((facts, state, begun, packed_rare, ended, order, version, index, lead or None))


def unpack(subs_id: str, packed: bytes, lead: Callable[[], float] | None = None) -> Row:
    """Unpack a row. `lead` returns how far (s) the clock is ahead now.

    If that is less than when the row was stamped, the clock was set back since. The row's times are then moved back by
    the difference.
    """
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
    """How far (s) the clock that stamped this row was ahead."""
    ahead: float | None = loads(packed)[-1]  # noqa: S302  our own bytes
    return ahead or 0.0
