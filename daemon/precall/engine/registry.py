"""Registers, removes and overrides bindings, on behalf of customers and operators.

`core.routing.registration` decides whether a registration starts a new generation. The observed state of a binding is
written by the checker, not here.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

from precall.config.settings import Settings
from precall.core.errors import Refusal
from precall.core.model import Action, Binding, Override, Row, WriteCause
from precall.core.orders import LIFT, Order, OrderKind
from precall.core.routing.registration import RegistrationOutcome, override_role, register
from precall.core.routing.route import expired_locally
from precall.table.table import Table
from precall.table.writer import Writer
from precall.table.writes import Amendment


class Registry:
    """Registers, removes and overrides bindings.

    Each method returns once its change is committed and published, or raises StoreUnavailable.
    """

    def __init__(self, writer: Writer, table: Table, settings: Settings, clock: Callable[[], float]) -> None:
        self._writer, self._table, self._settings, self._clock = writer, table, settings, clock

    async def register(
        self, wanted: Sequence[Binding], *, atomic: bool
    ) -> list[RegistrationOutcome | Refusal]:
        """Register bindings, and return the outcome of each in order.

        `atomic`: if one is refused, none is stored. The others then report the outcome that they would have had.
        StoreUnavailable means that none was stored.
        """
        amend = self._apply_or_raise if atomic else self._apply
        writes = [(binding.subs_id, WriteCause.REGISTERED, partial(amend, binding)) for binding in wanted]
        while True:
            rows = [self._table.get(binding.subs_id) for binding in wanted]
            refusals = [self._refusal(row, binding) for row, binding in zip(rows, wanted, strict=True)]
            if all(refusals) or (atomic and any(refusals)):
                return [
                    self._apply(binding, row, 0).verdict for row, binding in zip(rows, wanted, strict=True)
                ]
            try:
                stored = await asyncio.gather(*self._writer.submit_all(writes))
            except Refusal:
                # While the atomic batch waited, another write made one of its entries invalid. Find out which.
                continue
            return [amendment.verdict for amendment in stored]

    async def remove(self, subs_id: str) -> bool:
        """Remove a binding. Return False if there is none. Raises Refusal for a binding of a source."""
        before = self._table.get(subs_id)
        if before is None:
            return False
        if before.binding.origin != "api":
            raise _wrong_origin(before.binding.origin)
        await self.withdraw([subs_id], "api")
        return True

    async def withdraw(self, subs_ids: Sequence[str], origin: str) -> None:
        """Remove, in one transaction, those of these bindings that come from `origin`."""

        def amend(row: Row | None, _index: int) -> Amendment[None]:
            kept = row is not None and row.binding.origin != origin
            return Amendment(row if kept else None, None)

        writes = [(subs_id, WriteCause.REMOVED, amend) for subs_id in subs_ids]
        await asyncio.gather(*self._writer.submit_all(writes))

    async def override(
        self, subs_id: str, action: Action, number: str, until: float | None, reason: str, by: str
    ) -> Row:
        """Override the route of a binding until a time (Unix seconds), or until lifted (None). Return its row.

        Raises Refusal if the binding is unknown, the time has passed, or `number` is not one of the binding's own.
        """

        def amend(row: Row | None, _index: int) -> Amendment[None]:
            now = self._clock()
            if row is None:
                raise Refusal(404, "unknown_binding", "there is no binding of this id", "subs_id")
            if until is not None and until <= now:
                raise Refusal(422, "in_the_past", "this time has passed", "until")
            role = override_role(row, action, number)
            if role is None:
                raise Refusal(
                    422,
                    "foreign_number",
                    "an override may only say hold, dial_x or dial_temp_x, with a number the binding itself has"
                    " now",
                    "number" if number else "action",
                )
            generation = row.binding.generation
            override = Override(action, role, until, reason, generation, now, by)
            order = Order(OrderKind.OVERRIDE, subs_id, action.value, by, now, reason, until, generation)
            return Amendment(replace(row, override=override), None, order)

        row = (await self._writer.submit(subs_id, WriteCause.OVERRIDE, amend)).row
        if row is None:
            raise AssertionError("an override does not remove its row")
        return row

    async def lift(self, subs_id: str, by: str) -> bool:
        """End the override of a binding. Return False if there is none."""
        before = self._table.get(subs_id)
        if before is None or before.override is None:
            return False

        def amend(row: Row | None, _index: int) -> Amendment[None]:
            if row is None or row.override is None:
                return Amendment(row, None)
            generation = row.binding.generation
            order = Order(OrderKind.OVERRIDE, subs_id, LIFT, by, self._clock(), generation=generation)
            return Amendment(replace(row, override=None), None, order)

        await self._writer.submit(subs_id, WriteCause.OVERRIDE, amend)
        return True

    def _apply_or_raise(
        self, wanted: Binding, row: Row | None, index: int
    ) -> Amendment[RegistrationOutcome | Refusal]:
        """Amend a row like `_apply`, but raise a refusal, so that the writer stores nothing of an atomic batch."""
        amendment = self._apply(wanted, row, index)
        if isinstance(amendment.verdict, Refusal):
            raise amendment.verdict
        return amendment

    def _apply(
        self, wanted: Binding, row: Row | None, index: int
    ) -> Amendment[RegistrationOutcome | Refusal]:
        """Amend a row by a registration. A refusal leaves the row as it is."""
        if refusal := self._refusal(row, wanted):
            return Amendment(row, refusal)
        outcome, after = register(row, wanted, self._settings.policy, self._clock(), index)
        return Amendment(after, outcome)

    def _refusal(self, row: Row | None, wanted: Binding) -> Refusal | None:
        """Return why this registration cannot be stored, or None.

        An expiry in the past is refused from the API only. A source uses it to end a binding early.
        """
        if row is not None and row.binding.origin != wanted.origin:
            return _wrong_origin(row.binding.origin)
        if wanted.origin != "api":
            return None
        unchanged = row is not None and row.binding.expires_at == wanted.expires_at
        if expired_locally(wanted, self._settings.policy, self._clock()) and not unchanged:
            return Refusal(422, "expires_in_the_past", "this time has passed", "expires_at")
        return None


def _wrong_origin(origin: str) -> Refusal:
    return Refusal(
        409, "foreign_origin", f"this binding comes from {origin} and is read-only here", "subs_id"
    )
