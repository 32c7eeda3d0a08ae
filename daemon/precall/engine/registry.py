"""Registrations and overrides: what customers and operators say of a binding, through the writer.

Registered columns belong here; override columns to the operator; observed ones to the checker. What a registration
means for a generation is decided in `core.routing.registration`.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

from precall.config.settings import Settings
from precall.core.errors import Refusal
from precall.core.model import Action, Binding, Override, Row, WriteCause
from precall.core.routing.registration import RegistrationOutcome, meant, register
from precall.core.routing.route import expired_locally
from precall.table.table import Table
from precall.table.writer import Writer
from precall.table.writes import Amendment


class Registry:
    """Registers, removes, overrides. Every method returns after the commit and the publication."""

    def __init__(self, writer: Writer, table: Table, settings: Settings, clock: Callable[[], float]) -> None:
        self._writer, self._table, self._settings, self._clock = writer, table, settings, clock

    async def register(
        self, wanted: Sequence[Binding], *, atomic: bool
    ) -> list[RegistrationOutcome | Refusal]:
        """Register bindings; return the outcome of each, in order. Raises StoreUnavailable, with nothing stored.

        `atomic`: if one is refused, none is stored, and the other entries say what their outcome would have been.
        """
        amend = self._insist if atomic else self._judge
        writes = [(binding.subs_id, WriteCause.REGISTERED, partial(amend, binding)) for binding in wanted]
        while True:
            rows = [self._table.get(binding.subs_id) for binding in wanted]
            refusals = [self._refusal(row, binding) for row, binding in zip(rows, wanted, strict=True)]
            if all(refusals) or (atomic and any(refusals)):
                return [
                    self._judge(binding, row, 0).verdict for row, binding in zip(rows, wanted, strict=True)
                ]
            try:
                stored = await asyncio.gather(*self._writer.submit_all(writes))
            except Refusal:
                # One of an atomic batch has come to be refused while it waited for its turn: see which.
                continue
            return [amendment.verdict for amendment in stored]

    async def remove(self, subs_id: str) -> bool:
        """Forget a binding; False when it is not known."""
        before = self._table.get(subs_id)
        if before is None:
            return False
        if before.binding.origin != "api":
            raise _foreign(before.binding.origin)
        await self.withdraw([subs_id], "api")
        return True

    async def withdraw(self, subs_ids: Sequence[str], origin: str) -> None:
        """Forget those of these bindings that come from `origin`, in one transaction."""

        def amend(row: Row | None, _index: int) -> Amendment[None]:
            foreign = row is not None and row.binding.origin != origin
            return Amendment(row if foreign else None, None)

        writes = [(subs_id, WriteCause.REMOVED, amend) for subs_id in subs_ids]
        await asyncio.gather(*self._writer.submit_all(writes))

    async def override(
        self, subs_id: str, action: Action, number: str, until: float | None, reason: str, by: str
    ) -> Row:
        """Pin a route until a time, or until lifted (None). Refusal when the binding has no such number."""

        def amend(row: Row | None, _index: int) -> Amendment[None]:
            now = self._clock()
            if row is None:
                raise Refusal(404, "unknown_binding", "there is no binding of this id", "subs_id")
            if until is not None and until <= now:
                raise Refusal(422, "in_the_past", "this time has passed", "until")
            means = meant(row, action, number)
            if means is None:
                raise Refusal(
                    422,
                    "foreign_number",
                    "an override may only say hold, dial_x or dial_temp_x, with a number the binding itself has"
                    " now",
                    "number" if number else "action",
                )
            pin = Override(action, means, until, reason, row.binding.generation, now, by)
            return Amendment(replace(row, override=pin), None)

        row = (await self._writer.submit(subs_id, WriteCause.OVERRIDE, amend)).row
        if row is None:
            raise AssertionError("an override leaves its row")
        return row

    async def lift(self, subs_id: str) -> bool:
        """End an override; False when there is none."""
        before = self._table.get(subs_id)
        if before is None or before.override is None:
            return False

        def amend(row: Row | None, _index: int) -> Amendment[None]:
            return Amendment(
                row if row is None or row.override is None else replace(row, override=None), None
            )

        await self._writer.submit(subs_id, WriteCause.OVERRIDE, amend)
        return True

    def _insist(
        self, wanted: Binding, row: Row | None, index: int
    ) -> Amendment[RegistrationOutcome | Refusal]:
        """The same for a batch that stands or falls as one: a refusal refuses all of it."""
        amendment = self._judge(wanted, row, index)
        if isinstance(amendment.verdict, Refusal):
            raise amendment.verdict
        return amendment

    def _judge(
        self, wanted: Binding, row: Row | None, index: int
    ) -> Amendment[RegistrationOutcome | Refusal]:
        """What a registration makes of the row as it stands now, and its verdict."""
        if refusal := self._refusal(row, wanted):
            return Amendment(row, refusal)
        outcome, after = register(row, wanted, self._settings.policy, self._clock(), index)
        return Amendment(after, outcome)

    def _refusal(self, row: Row | None, wanted: Binding) -> Refusal | None:
        """Why this registration cannot be stored. An end that has passed is a mistake over the API only: for a source
        it is how a binding ends early."""
        if row is not None and row.binding.origin != wanted.origin:
            return _foreign(row.binding.origin)
        if wanted.origin != "api":
            return None
        unchanged = row is not None and row.binding.expires_at == wanted.expires_at
        if expired_locally(wanted, self._settings.policy, self._clock()) and not unchanged:
            return Refusal(422, "expires_in_the_past", "this time has passed", "expires_at")
        return None


def _foreign(origin: str) -> Refusal:
    return Refusal(
        409, "foreign_origin", f"this binding comes from {origin} and is read-only here", "subs_id"
    )
