"""The exposure brake at work: it lets a confirmed Status 3 turn to the real number, or holds it, and lets go of what it
held once it is released.

How many may turn is decided in `core.exposure`, whether a binding waits for nothing but the brake in `core.routing`.
Letting go asks the provider nothing: what is held was answered, and is still young enough to act upon.
"""

import asyncio
from functools import partial

from precall.clocks import Clocks
from precall.config.settings import Settings
from precall.core.model import Row, WriteCause
from precall.core.routing.brake import Brake
from precall.core.routing.exposure import may_turn, release_to_real
from precall.core.routing.route import held_by_brake
from precall.table.table import Table
from precall.table.writer import Writer
from precall.table.writes import Amendment
from precall.telemetry.logging import get_logger
from precall.telemetry.metrics import Metrics

log = get_logger(__name__)

SLICE = 250
"""Bindings let go in one transaction; the loop is free in between."""


class BrakeRelease:
    """Asks the brake, and remembers which bindings it held: those held first are let go first, after a restart those
    with the lowest ids."""

    def __init__(
        self,
        brake: Brake,
        ledger: Writer,
        table: Table,
        settings: Settings,
        metrics: Metrics,
        clocks: Clocks,
    ) -> None:
        self.brake = brake
        self._ledger, self._table, self._settings, self._metrics = ledger, table, settings, metrics
        self._clocks = clocks
        self._held: dict[str, dict[str, None]] = {}
        self._engaged: set[str] = set()
        self._turning: set[str] = set()
        self._letting_go: dict[str, asyncio.Task[None]] = {}

    def admit(self, row: Row) -> bool:
        """Whether this binding may turn to the real number now; if the brake has no room, it is remembered as held."""
        subs_id, pool_key = row.binding.subs_id, row.binding.pool_key
        if subs_id in self._turning or self._has_room(pool_key):
            return True
        self.hold(row)
        return False

    def hold(self, row: Row) -> None:
        """Remember that the brake holds this binding."""
        self._held.setdefault(row.binding.pool_key, {}).setdefault(row.binding.subs_id)

    def follow(self, before: Row | None, after: Row | None) -> None:
        """Forget whom the brake holds no more."""
        if (
            self._held
            and before is not None
            and (after is None or not may_turn(after.state, self._settings.policy))
        ):
            self._forget(before)

    def look(self) -> None:
        """Log it when an engaged brake is released, by an operator or by itself, and let go of what it held."""
        for pool_key in [*self._engaged, *(self._held.keys() - self._engaged)]:
            if self.brake.engaged(pool_key, self._table.active(pool_key), self._clocks.tick()):
                continue
            if pool_key in self._engaged:
                self._engaged.remove(pool_key)
                self._show(pool_key, engaged=False)
                log.warning("exposure_brake.released", pool=pool_key, held=len(self._held.get(pool_key, ())))
            if self._held.get(pool_key) and pool_key not in self._letting_go:
                task = asyncio.create_task(self._let_go(pool_key), name=f"brake-{pool_key}")
                self._letting_go[pool_key] = task
                task.add_done_callback(partial(self._ended, pool_key))

    async def released(self, patience: float) -> None:
        """Return when what a release let go is published, or after `patience` seconds, while it goes on."""
        self.look()
        if self._letting_go:
            await asyncio.wait(self._letting_go.values(), timeout=patience)

    @property
    def under_way(self) -> "list[asyncio.Task[None]]":
        """What is being let go."""
        return list(self._letting_go.values())

    def _has_room(self, pool_key: str) -> bool:
        active = self._table.active(pool_key)
        if self.brake.admit(pool_key, active, self._clocks.tick()):
            return True
        if pool_key not in self._engaged:
            self._engaged.add(pool_key)
            self._show(pool_key, engaged=True)
            log.error("exposure_brake.engaged", pool=pool_key, cap=self.brake.cap(active))
        return False

    async def _let_go(self, pool_key: str) -> None:
        """Turn those held to their real numbers, until the cap is reached anew."""
        room = True
        while room and (held := self._held.get(pool_key)):
            turning: list[str] = []
            for subs_id in list(held)[:SLICE]:
                row = self._table.get(subs_id)
                if row is None or not held_by_brake(row, self._settings.policy, self._clocks.now()):
                    # Something else holds it by now; its next answer asks the brake again.
                    del held[subs_id]
                elif room := self._has_room(pool_key):
                    del held[subs_id]
                    turning.append(subs_id)
                else:
                    break
            self._turning.update(turning)
            try:
                wishes = [(subs_id, WriteCause.CHECKED, self._turn) for subs_id in turning]
                await asyncio.gather(*self._ledger.submit_all(wishes))
            finally:
                self._turning.difference_update(turning)
            await asyncio.sleep(0)
        if not self._held.get(pool_key):
            self._held.pop(pool_key, None)

    def _turn(self, row: Row | None, _index: int) -> Amendment[None]:
        turned = row and release_to_real(row, self._settings.policy, self._clocks.now())
        return Amendment(turned, None)

    def _forget(self, row: Row) -> None:
        if held := self._held.get(row.binding.pool_key):
            held.pop(row.binding.subs_id, None)

    def _show(self, pool_key: str, *, engaged: bool) -> None:
        self._metrics.exposure_brake.labels(self._metrics.pool(pool_key)).set(float(engaged))

    def _ended(self, pool_key: str, task: "asyncio.Task[None]") -> None:
        del self._letting_go[pool_key]
        if not task.cancelled() and (error := task.exception()):
            log.error("exposure_brake.broken", pool=pool_key, exc_info=error)
