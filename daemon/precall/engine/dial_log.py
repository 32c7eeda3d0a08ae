"""The dial log: what happened to the sampled bindings, written beside the history so that `precall replay` can compare
orders of checks on real traffic."""

from precall.clocks import Clocks
from precall.core.model import Row, State
from precall.core.planning.sample import LogEvent, Sample
from precall.table.table import Table
from precall.table.writer import Writer


class DialLog:
    """Writes one line per event of a binding that `sample` holds."""

    def __init__(self, sample: Sample, writer: Writer, table: Table, clocks: Clocks) -> None:
        self._sample, self._writer, self._table, self._clocks = sample, writer, table, clocks

    def record(self, subs_id: str, event: LogEvent, *, verified: bool = False) -> None:
        """Log an event of a binding in the table. An answer that ends the binding counts as its removal."""
        if self._sample.holds(subs_id) and (row := self._table.get(subs_id)):
            if event is LogEvent.ANSWER and row.state.state is State.EXPIRED:
                event = LogEvent.REMOVE
            self._writer.log_dial(self._sample.event(row, event, self._clocks.now(), verified=verified))

    def record_row(self, row: Row, event: LogEvent) -> None:
        """Log an event of a row that is not, or not yet, the one in the table."""
        if self._sample.holds(row.binding.subs_id):
            self._writer.log_dial(self._sample.event(row, event, self._clocks.now()))
