"""Where numbers lie: the columns that are sealed, and what names a row among its table's. How they are sealed is
`seal`'s part.

Beside the numbers and their extensions these are the texts in which customers and operators may have written one.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Table

from precall.store import schema
from precall.store.cipher import Cipher


@dataclass(frozen=True, slots=True)
class SealedColumns:
    """The sealed columns of a table. `row` is the column whose value stands for the row in their places; `key` the one
    that finds it."""

    table: Table
    row: str
    columns: tuple[str, ...]

    @property
    def key(self) -> str:
        return str(self.table.primary_key.columns[0].name)

    def of(self, column: str, row: object) -> str:
        """The place of one value."""
        return f"{self.table.name}.{column} {row}"

    def seal(self, seals: Cipher, values: Mapping[str, Any]) -> Mapping[str, Any]:
        """The row as it is to be stored."""
        if not seals:
            return values
        row = values[self.row]
        sealed = {name: seals.seal(self.of(name, row), values[name]) for name in self.columns if values[name]}
        return {**values, **sealed}

    def open(self, seals: Cipher, values: Mapping[Any, Any]) -> dict[str, Any]:
        """The row as it was, from the row as it is stored."""
        row = values[self.row]
        opened = {name: seals.open(self.of(name, row), values[name]) for name in self.columns if values[name]}
        return {**values, **opened}


BINDINGS = SealedColumns(
    schema.bindings, "subs_id", ("number_x", "number_a", "number_b", "extension", "labels")
)
ROUTES = SealedColumns(schema.routes, "subs_id", ("number", "extension", "temp_number", "temp_extension"))
OVERRIDES = SealedColumns(schema.overrides, "subs_id", ("number", "reason"))
RESULTS = SealedColumns(schema.check_results, "subs_id", ("number", "extension"))
"""By binding, not by run: a check finds the run it continues by comparing numbers that are sealed alike."""
CHANGES = SealedColumns(schema.route_changes, "index", ("number", "extension"))
PAUSES = SealedColumns(schema.pauses, "pool_key", ("reason",))
BRAKES = SealedColumns(schema.brakes, "pool_key", ("reason",))
MARKS = SealedColumns(schema.marks, "name", ("value",))

EVERYWHERE = (BINDINGS, ROUTES, OVERRIDES, RESULTS, CHANGES, PAUSES, BRAKES)
"""Not the marks: of those only secrets are sealed, by who keeps them."""
