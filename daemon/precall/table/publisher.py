"""Publishes a change to the table, the feed, the log and the metrics.

The writer commits a change before it is published. While the database is down, it commits afterwards.
"""

from dataclasses import replace

from precall.core.model import Change, Row
from precall.table.change_log import ChangeLog
from precall.table.feed import Feed
from precall.table.table import Table
from precall.table.unsaved import UnsavedChanges
from precall.telemetry.metrics import Metrics


class Publisher:
    """Publishes changes in order. `unsaved` holds those that are not in the database yet."""

    def __init__(self, table: Table, feed: Feed, unsaved: UnsavedChanges, metrics: Metrics) -> None:
        self.unsaved = unsaved
        self._table, self._feed, self._metrics = table, feed, metrics
        self._log = ChangeLog()

    def publish(self, change: Change, *, saved: bool) -> Row | None:
        """Publish one change. Return the row that readers see from now on, None if it was removed."""
        row = self._current(change)
        if not saved:
            self.unsaved.append(change)
            self._table.unsaved.add(change.subs_id)
        self._table.publish(change.subs_id, row)
        self._feed.append(change, saved=saved)
        if not change.quiet:
            self._report(change)
        return row

    def _current(self, change: Change) -> Row | None:
        """Return the row of a change, with a newer observation if one came during the commit."""
        row = change.row
        published = self._table.get(change.subs_id)
        if row is None or published is None or published.binding.generation != row.binding.generation:
            return row
        return replace(row, state=published.state) if published.state.seq > row.state.seq else row

    def _report(self, change: Change) -> None:
        after = change.row.state.state if change.row else "removed"
        self._metrics.route_changes.labels(change.before or "none", after).inc()
        self._log.add(change)

    def close(self) -> None:
        """Log what is still to be logged."""
        self._log.close()
