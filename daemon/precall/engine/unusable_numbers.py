"""At the leader's start, marks bindings with numbers that an earlier version accepted and this one rejects.

Such numbers are never dialled: `core.routing` validates the numbers of a row in every decision. Marking them in the
database also protects readers of the SQL view. The operator gets one log line.
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


async def mark_unusable(table: Table, writer: Writer) -> None:
    """Mark bindings whose numbers may not be dialled, and clear observed numbers that are invalid or a party's own.

    If the database accepts no writes, this is left to the next start.
    """
    unusable = sorted(table.unusable)
    if not unusable:
        return
    log.error(
        "numbers.unusable",
        bindings=len(unusable),
        first=unusable[:EXAMPLES],
        cure="they are held; register each again with the number alone, an extension in `extension`, X no party's",
    )
    try:
        for start in range(0, len(unusable), SLICE):
            await _enforce(writer, unusable[start : start + SLICE])
    except StoreUnavailable as error:
        log.warning("numbers.not_marked", error=str(error))


async def _enforce(writer: Writer, subs_ids: Sequence[str]) -> None:
    marked = writer.submit_all([(subs_id, WriteCause.REGISTERED, _marked) for subs_id in subs_ids])
    forgotten = writer.submit_all([(subs_id, WriteCause.CHECKED, _forgotten) for subs_id in subs_ids])
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
