"""The columns that are sealed, and how a row of each table is identified. `cipher` does the sealing.

These are numbers, their extensions, and texts in which customers or operators may have written a number.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Table

from precall.store import schema
from precall.store.cipher import Cipher


@dataclass(frozen=True, slots=True)
class SealedColumns:
    """The sealed columns of a table.

    The value of column `row` is part of each sealed value's location. Column `key` is the primary key.
    """

    table: Table
    row: str
    columns: tuple[str, ...]

    @property
    def key(self) -> str:
        return str(self.table.primary_key.columns[0].name)

    def location(self, column: str, row: object) -> str:
        """Return the location of one value, for `Cipher.seal` and `Cipher.open`."""
        return f"{self.table.name}.{column} {row}"

    def seal(self, cipher: Cipher, values: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return a row with its sealed columns encrypted, ready to be stored."""
        if not cipher:
            return values
        row = values[self.row]
        sealed = {
            name: cipher.seal(self.location(name, row), values[name]) for name in self.columns if values[name]
        }
        return {**values, **sealed}

    def open(self, cipher: Cipher, values: Mapping[Any, Any]) -> dict[str, Any]:
        """Return a stored row with its sealed columns decrypted."""
        row = values[self.row]
        opened = {
            name: cipher.open(self.location(name, row), values[name]) for name in self.columns if values[name]
        }
        return {**values, **opened}


BINDINGS = SealedColumns(
    schema.bindings, "subs_id", ("number_x", "number_a", "number_b", "extension", "labels")
)
ROUTES = SealedColumns(schema.routes, "subs_id", ("number", "extension", "temp_number", "temp_extension"))
OVERRIDES = SealedColumns(schema.overrides, "subs_id", ("number", "reason"))
RESULTS = SealedColumns(schema.check_results, "subs_id", ("number", "extension"))
"""Located by binding, not by run: a check finds its run by comparing equal ciphertexts."""
CHANGES = SealedColumns(schema.route_changes, "index", ("number", "extension"))
PAUSES = SealedColumns(schema.pauses, "pool_key", ("reason",))
BRAKES = SealedColumns(schema.brakes, "pool_key", ("reason",))
MARKS = SealedColumns(schema.marks, "name", ("value",))

EVERYWHERE = (BINDINGS, ROUTES, OVERRIDES, RESULTS, CHANGES, PAUSES, BRAKES)
"""All but `MARKS`, where only secrets are sealed, by `key_registry`."""
