"""The configured query on the customer's database: all of its rows, or those changed since the newest change seen."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import tzinfo
from zoneinfo import ZoneInfo

from precall.config import database_url
from precall.config.schema import SourceConfig, secret
from precall.core.errors import ConfigError, OutOfReach, PrecallError
from precall.core.model import Binding
from precall.core.sync.columns import CHANGED, BadRow, Columns
from precall.core.sync.since import AHEAD, NewestChange, SinceQuery, everything
from precall.store import ForeignDatabase
from precall.telemetry.redaction import masked

TakeRow = Callable[[Binding | BadRow], None]
NOTHING_SEEN = NewestChange()


class SourceQuery:
    """The query of a configuration. Raises ConfigError for unusable settings."""

    def __init__(self, config: SourceConfig) -> None:
        url = secret(config.url, config.url_file, "source.url_file")
        self._zone: tzinfo | None = ZoneInfo(config.timezone) if config.timezone else None
        self._database = ForeignDatabase(url)
        backend = database_url.backend(url)
        self._query = SinceQuery.of(config.query, backend)
        self._beginnings = everything(backend) if self.incremental else ("",)

    @property
    def incremental(self) -> bool:
        """Whether the query has a `:since`."""
        return self._query.incremental

    async def rows(
        self, take: TakeRow, now: float, since: NewestChange = NOTHING_SEEN, look_back: float = 0.0
    ) -> NewestChange:
        """Call `take` for each row, or for those changed since `since` minus `look_back` seconds.

        Returns the newest change time, which is at least `since`. `now` is in Unix seconds. Raises ConfigError,
        OutOfReach.
        """
        if since.value is not None:
            return await self._read(_RowReader(take, self, since, now), since.literal(look_back))
        first: PrecallError | None = None
        for literal in self._beginnings:
            reading = _RowReader(take, self, since, now)
            try:
                newest = await self._read(reading, literal)
            except (ConfigError, OutOfReach) as error:
                first = first or error
                if reading.taken:
                    raise
                continue
            self._beginnings = (literal,)
            return newest
        raise first or AssertionError("there is always a literal")

    async def _read(self, reading: "_RowReader", literal: str) -> NewestChange:
        await self._database.read(self._query.text(literal), reading.convert)
        return reading.newest

    def columns(self, names: Sequence[str]) -> Columns:
        """Return the columns of a result with these names. Raises ConfigError with every mistake."""
        try:
            return Columns(names, self._zone, incremental=self.incremental)
        except ConfigError as error:
            # A column without an alias is named after its expression, which may contain a value.
            raise ConfigError([masked(mistake) for mistake in error.mistakes]) from None


class _RowReader:
    """One read: converts rows, and keeps the newest change time."""

    def __init__(self, take: TakeRow, query: SourceQuery, since: NewestChange, now: float) -> None:
        self.newest, self.taken = since, 0
        self._take, self._query, self._latest = take, query, now + AHEAD
        self._columns: Columns | None = None

    def convert(self, names: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
        """Convert a slice of the result."""
        columns = self._columns = self._columns or self._query.columns(names)
        for row in rows:
            self.taken += 1
            converted = columns.read(row)
            try:
                self.newest = self.newest.after(columns.changed_at(row), self._latest)
            except ValueError as wrong:
                converted = BadRow(converted.subs_id, CHANGED, str(wrong))
            self._take(_with_position(converted, self.taken))


def _with_position(row: Binding | BadRow, position: int) -> Binding | BadRow:
    """Identify a bad row without an id by its position in the result, counted from 1."""
    if isinstance(row, BadRow) and not row.subs_id:
        return replace(row, text=f"{row.text} (row {position} of the result)")
    return row
