"""The columns that are sealed, and how a row of each table is identified. `cipher` does the sealing.

These are numbers, their extensions, and texts in which customers or operators may have written a number.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Table

from precall.store import schema
from precall.store.cipher import Cipher


@dataclass(frozen=True, slots=True)
class SealedColumns:
    """The sealed columns of a table.

    The value of column `row` is part of each sealed value's location. Column `key` is the primary key. Where one table
    has replaced several, `sealed_for` names the one that a row is located in, by the row's `kind`: sealed values could
    be moved without a key.
    """

    table: Table
    row: str
    columns: tuple[str, ...]
    sealed_for: Mapping[str, str] = field(default_factory=dict)

    @property
    def key(self) -> str:
        return str(self.table.primary_key.columns[0].name)

    @property
    def needed(self) -> tuple[str, ...]:
        """The columns that identify a row and open its sealed ones, those included."""
        kind = ("kind",) if self.sealed_for else ()
        return tuple(dict.fromkeys((self.key, self.row, *kind, *self.columns)))

    def location(self, column: str, row: object) -> str:
        """Return the location of one value, for `Cipher.seal` and `Cipher.open`."""
        return f"{self.table.name}.{column} {row}"

    def _location(self, column: str, values: Mapping[Any, Any]) -> str:
        if self.sealed_for:
            return f"{self.sealed_for[values['kind']]}.{column} {values[self.row]}"
        return self.location(column, values[self.row])

    def seal(self, cipher: Cipher, values: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return a row with its sealed columns encrypted, ready to be stored."""
        if not cipher:
            return values
        sealed = {
            name: cipher.seal(self._location(name, values), values[name])
            for name in self.columns
            if values[name]
        }
        return {**values, **sealed}

    def open(self, cipher: Cipher, values: Mapping[Any, Any]) -> dict[str, Any]:
        """Return a stored row with its sealed columns decrypted."""
        opened = {
            name: cipher.open(self._location(name, values), values[name])
            for name in self.columns
            if values[name]
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
ORDERS = SealedColumns(
    schema.orders,
    "target",
    ("reason",),
    {"override": "overrides", "pause": "pauses", "brake": "brakes"},
)
"""Located by target, in the table where orders of its kind used to be."""
MARKS = SealedColumns(schema.marks, "name", ("value",))

EVERYWHERE = (BINDINGS, ROUTES, OVERRIDES, RESULTS, CHANGES, ORDERS)
"""All but `MARKS`, where only secrets are sealed, by `key_registry`."""
