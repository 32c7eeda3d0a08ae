"""Admission by the exposure brake, and the release of the bindings it held.

A binding with a confirmed Status 3 is either admitted to its real number or held. `core.routing.brake` decides how many
are admitted, `core.routing.route` whether a binding waits only for the brake. A release needs no provider call: held
bindings have an answer that is still fresh enough to act on.
"""

import asyncio
from functools import partial

from precall.clocks import Clocks
from precall.config.settings import Settings
from precall.core.model import Row, WriteCause
from precall.core.routing.brake import Brake
from precall.core.routing.exposure import may_turn, release_to_real, withdraw
from precall.core.routing.route import held_by_brake
from precall.table.table import Table
from precall.table.writer import Writer
from precall.table.writes import Amendment
from precall.telemetry.logging import get_logger
from precall.telemetry.metrics import Metrics

log = get_logger(__name__)

SLICE = 250
"""Bindings released per transaction, with a yield to the event loop in between."""


class BrakeRelease:
    """Applies the brake and remembers the bindings it holds.

    They are released in the order in which they were held; after a restart, in the order of their ids.
    """

    def __init__(
        self,
        brake: Brake,
        writer: Writer,
        table: Table,
        settings: Settings,
        metrics: Metrics,
        clocks: Clocks,
    ) -> None:
        self.brake = brake
        self._writer, self._table, self._settings, self._metrics = writer, table, settings, metrics
        self._clocks = clocks
        self._held: dict[str, dict[str, None]] = {}
        self._engaged: set[str] = set()
        self._admitted: set[str] = set()
        self._releasing: dict[str, asyncio.Task[None]] = {}

    def admit(self, row: Row) -> bool:
        """Return whether this binding may use its real number now. If the cap is reached, hold it."""
        subs_id, pool_key = row.binding.subs_id, row.binding.pool_key
        if subs_id in self._admitted or self._has_room(pool_key):
            return True
        self.hold(row)
        return False

    def hold(self, row: Row) -> None:
        """Add this binding to those held by the brake."""
        self._held.setdefault(row.binding.pool_key, {}).setdefault(row.binding.subs_id)

    def follow(self, before: Row | None, after: Row | None) -> None:
        """Remove a binding that the brake no longer holds after this change."""
        if (
            self._held
            and before is not None
            and (after is None or not may_turn(after.binding, after.state, self._settings.policy))
        ):
            self._forget(before)

    def withdraw(self, row: Row) -> None:
        """Withdraw the exposure of a binding whose pool is only observed."""
        self._writer.submit(row.binding.subs_id, WriteCause.CHECKED, self._withdrawn)

    def look(self) -> None:
        """Find brakes that were released, by an operator or by time. Log each one and release its bindings."""
        for pool_key in [*self._engaged, *(self._held.keys() - self._engaged)]:
            if self.brake.engaged(pool_key, self._table.active(pool_key), self._clocks.tick()):
                continue
            if pool_key in self._engaged:
                self._engaged.remove(pool_key)
                self._show(pool_key, engaged=False)
                log.warning("exposure_brake.released", pool=pool_key, held=len(self._held.get(pool_key, ())))
            if self._held.get(pool_key) and pool_key not in self._releasing:
                task = asyncio.create_task(self._release(pool_key), name=f"brake-{pool_key}")
                self._releasing[pool_key] = task
                task.add_done_callback(partial(self._ended, pool_key))

    async def released(self, patience: float) -> None:
        """Wait until released bindings are published, for at most `patience` seconds. It continues after that."""
        self.look()
        if self._releasing:
            await asyncio.wait(self._releasing.values(), timeout=patience)

    def held(self, pool_key: str) -> int:
        """Return how many bindings of this pool wait for the brake."""
        return len(self._held.get(pool_key, ()))

    @property
    def under_way(self) -> "list[asyncio.Task[None]]":
        """The releases in progress."""
        return list(self._releasing.values())

    def _has_room(self, pool_key: str) -> bool:
        active = self._table.active(pool_key)
        if self.brake.admit(pool_key, active, self._clocks.tick()):
            return True
        if pool_key not in self._engaged:
            self._engaged.add(pool_key)
            self._show(pool_key, engaged=True)
            log.error("exposure_brake.engaged", pool=pool_key, cap=self.brake.cap(active))
        return False

    async def _release(self, pool_key: str) -> None:
        """Release held bindings to their real numbers until the cap is reached again."""
        room = True
        while room and (held := self._held.get(pool_key)):
            turning: list[str] = []
            for subs_id in list(held)[:SLICE]:
                row = self._table.get(subs_id)
                if row is None or not held_by_brake(row, self._settings.policy, self._clocks.now()):
                    # No longer held by the brake alone. Its next answer asks the brake again.
                    del held[subs_id]
                elif room := self._has_room(pool_key):
                    del held[subs_id]
                    turning.append(subs_id)
                else:
                    break
            self._admitted.update(turning)
            try:
                writes = [(subs_id, WriteCause.CHECKED, self._turn) for subs_id in turning]
                await asyncio.gather(*self._writer.submit_all(writes))
            finally:
                self._admitted.difference_update(turning)
            await asyncio.sleep(0)
        if not self._held.get(pool_key):
            self._held.pop(pool_key, None)

    def _turn(self, row: Row | None, _index: int) -> Amendment[None]:
        turned = row and release_to_real(row, self._settings.policy, self._clocks.now())
        return Amendment(turned, None)

    def _withdrawn(self, row: Row | None, _index: int) -> Amendment[None]:
        return Amendment(row and withdraw(row, self._settings.policy), None)

    def _forget(self, row: Row) -> None:
        if held := self._held.get(row.binding.pool_key):
            held.pop(row.binding.subs_id, None)

    def _show(self, pool_key: str, *, engaged: bool) -> None:
        self._metrics.exposure_brake.labels(self._metrics.pool(pool_key)).set(float(engaged))

    def _ended(self, pool_key: str, task: "asyncio.Task[None]") -> None:
        del self._releasing[pool_key]
        if not task.cancelled() and (error := task.exception()):
            log.error("exposure_brake.broken", pool=pool_key, exc_info=error)
