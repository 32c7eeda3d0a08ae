"""What an earlier version stored and this one refuses, found at the start of a daemon that leads.

Nothing of it is dialled from the first read on: `core.routing` looks at the numbers of a row whenever it decides. Here
the database is told as well, for those that read the view, and the operator, in one line of the log.
"""

from collections.abc import Sequence
from dataclasses import replace

from precall.core.errors import StoreUnavailable
from precall.core.model import BindingState, Row, WriteCause
from precall.core.routing.route import sound, usable
from precall.table.table import Table
from precall.table.writer import Writer
from precall.table.writes import Amendment
from precall.telemetry.logging import get_logger

log = get_logger(__name__)

SLICE = 250
"""Bindings per transaction."""
EXAMPLES = 5


async def enforce(table: Table, ledger: Writer) -> None:
    """Mark the bindings whose numbers may not be dialled, and forget observed numbers that are a party's or none. While
    the database takes no writes it is left to the next start."""
    found = sorted(table.unusable)
    if not found:
        return
    log.error(
        "numbers.unusable",
        bindings=len(found),
        first=found[:EXAMPLES],
        cure="they are held; register each again with the number alone, an extension in `extension`, X no party's",
    )
    try:
        for start in range(0, len(found), SLICE):
            await _enforce(ledger, found[start : start + SLICE])
    except StoreUnavailable as error:
        log.warning("numbers.not_marked", error=str(error))


async def _enforce(ledger: Writer, subs_ids: Sequence[str]) -> None:
    marked = ledger.submit_all([(subs_id, WriteCause.REGISTERED, _marked) for subs_id in subs_ids])
    forgotten = ledger.submit_all([(subs_id, WriteCause.CHECKED, _forgotten) for subs_id in subs_ids])
    for done in (*marked, *forgotten):
        await done


def _marked(row: Row | None, _index: int) -> Amendment[None]:
    if row is None or sound(row.binding) or not row.binding.sound:
        return Amendment(row, None)
    return Amendment(replace(row, binding=replace(row.binding, sound=False)), None)


def _forgotten(row: Row | None, _index: int) -> Amendment[None]:
    if row is None:
        return Amendment(None, None)
    state = _without_unusable(row, row.state)
    return Amendment(row if state == row.state else replace(row, state=state), None)


def _without_unusable(row: Row, state: BindingState) -> BindingState:
    if state.number and not usable(row, state.number):
        state = replace(state, number="", extension="")
    if state.temp_number and not usable(row, state.temp_number):
        state = replace(state, temp_number="", temp_extension="", temp_at=0.0)
    return state
