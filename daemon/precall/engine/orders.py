"""Orders of operators for pools, put in force as they are given, and all orders as they are listed.

An order is stored first and put in force second. What is stored counts: at a start, at a take-over, and where it is
unknown whether a commit succeeded. Overrides are given by `registry`, since they change a row of the routing table.
"""

import asyncio
from collections.abc import Callable, Sequence

from precall.core.errors import StoreUnavailable
from precall.core.orders import ENGAGE, PAUSE, RELEASE, RESUME, ListedOrder, Order, OrderKind, in_force
from precall.engine.brake_release import BrakeRelease
from precall.engine.order_notes import OrderNotes
from precall.engine.plan_keeper import PlanKeeper
from precall.store import OrderFilter, Store
from precall.telemetry.logging import get_logger

log = get_logger(__name__)

LISTED = 100
"""How many orders in force are listed at once, unless more are asked for."""


class OperatorOrders:
    """The orders of operators. Methods raise StoreUnavailable unless they say otherwise."""

    def __init__(
        self,
        store: Store,
        plan: PlanKeeper,
        braking: BrakeRelease,
        notes: OrderNotes,
        clock: Callable[[], float],
    ) -> None:
        """`notes` remembers since when orders are in force."""
        self._store, self._plan, self._brake, self._clock = store, plan, braking.brake, clock
        self._notes = notes
        self._effects = {
            PAUSE: plan.pause,
            RESUME: plan.resume,
            ENGAGE: self._brake.halt,
            RELEASE: self._brake.release,
        }
        self._one = asyncio.Lock()
        self._in_doubt = False
        self.known: Sequence[ListedOrder] = ()
        """The orders in force at the last look into the database."""

    async def pause(self, pool_key: str, reason: str, by: str) -> None:
        """Stop the background checks of a pool, or of all pools ("")."""
        await self._give(Order(OrderKind.PAUSE, pool_key, PAUSE, by, self._clock(), reason))

    async def resume(self, pool_key: str, reason: str, by: str) -> None:
        """Resume the background checks of a pool; for "", of every pool."""
        await self._give(Order(OrderKind.PAUSE, pool_key, RESUME, by, self._clock(), reason))

    async def engage(self, pool_key: str, reason: str, by: str) -> None:
        """Engage the exposure brake of a pool, or of all pools ("")."""
        await self._give(Order(OrderKind.BRAKE, pool_key, ENGAGE, by, self._clock(), reason))

    async def release(self, pool_key: str, reason: str, by: str) -> None:
        """Release the exposure brake of a pool; for "", of every pool. A fresh cap counts from now."""
        await self._give(Order(OrderKind.BRAKE, pool_key, RELEASE, by, self._clock(), reason))

    async def page(
        self, wanted: OrderFilter, *, limit: int, before_id: int | None = None
    ) -> list[ListedOrder]:
        """Return orders, newest first. `before_id` is the id of the last order on the previous page."""
        return await self._store.orders.page(
            now=self._clock(), limit=limit, before_id=before_id, wanted=wanted
        )

    async def in_force(self, limit: int = LISTED) -> Sequence[ListedOrder]:
        """Return the newest orders in force, or those last known if the database is away. Raises nothing."""
        try:
            self.known = await self.page(OrderFilter(in_force=True), limit=limit)
        except StoreUnavailable as error:
            log.debug("orders.unread", error=str(error))
        return self.known

    async def settle(self) -> None:
        """If it is unknown whether an order was stored, put in force what is. Raises nothing."""
        if not self._in_doubt:
            return
        async with self._one:
            try:
                newest = await self._store.orders.newest(OrderKind.PAUSE, OrderKind.BRAKE)
            except StoreUnavailable as error:
                log.debug("orders.unread", error=str(error))
                return
            standing = in_force(newest, {}, self._clock())
            self._notes.restore(standing)
            paused = {order.target for order in standing if order.kind is OrderKind.PAUSE}
            halted = {order.target for order in standing if order.kind is OrderKind.BRAKE}
            for pool_key in self._plan.paused - paused:
                self._plan.resume(pool_key)
            for pool_key in paused - self._plan.paused:
                self._plan.pause(pool_key)
            for pool_key in self._brake.halted_pools - halted:
                self._brake.release(pool_key)
            for pool_key in halted - self._brake.halted_pools:
                self._brake.halt(pool_key)
            self._in_doubt = False

    async def _give(self, order: Order) -> None:
        """Store an order, then put it in force. Orders take effect in the order in which they are stored."""
        async with self._one:
            in_doubt, self._in_doubt = self._in_doubt, True
            await self._store.orders.give(order)
            if not order.ends:
                self._notes.note(order)
            self._effects[order.action](order.target)
            self._in_doubt = in_doubt
