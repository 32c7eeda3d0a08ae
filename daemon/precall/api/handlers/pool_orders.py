"""Orders for pools, however they were sent: for a known pool, in force, and in the log."""

from enum import StrEnum

from aiohttp import web

from precall.api.access.authenticator import Client
from precall.api.handlers import order_log
from precall.api.problems import Code
from precall.core.errors import Refusal
from precall.engine.services import Services

RELEASED_WITHIN = 2.0
"""Seconds that a release of the brake waits for the bindings on hold; the rest follows."""


class PoolOrder(StrEnum):
    """What can be ordered for a pool, or for all pools ("")."""

    PAUSE = "pause"
    RESUME = "resume"
    ENGAGE = "engage"
    RELEASE = "release"


_LOGGED = {PoolOrder.ENGAGE: "brake engage", PoolOrder.RELEASE: "brake release"}


async def give(
    request: web.Request, services: Services, client: Client, order: PoolOrder, pool_key: str, reason: str
) -> None:
    """Put an order in force. Raises Refusal (404) for an unknown pool, StoreUnavailable if it was not stored."""
    if not _in_force(services, order, pool_key):
        _must_be_known(services, pool_key)
    orders = services.orders
    match order:
        case PoolOrder.PAUSE:
            await orders.pause(pool_key, reason, client.name)
        case PoolOrder.RESUME:
            await orders.resume(pool_key, reason, client.name)
        case PoolOrder.ENGAGE:
            await orders.engage(pool_key, reason, client.name)
        case PoolOrder.RELEASE:
            await orders.release(pool_key, reason, client.name)
    order_log.given(request, client, _LOGGED.get(order, order.value), reason, pool=pool_key)
    if order is PoolOrder.RELEASE:
        await services.checker.braking.released(RELEASED_WITHIN)


def _in_force(services: Services, order: PoolOrder, pool_key: str) -> bool:
    """Whether an order ends one that is in force for this pool, which may have lost its bindings since."""
    match order:
        case PoolOrder.RESUME:
            return pool_key in services.checker.plan.paused
        case PoolOrder.RELEASE:
            return services.checker.brake.halted(pool_key)
        case _:
            return False


def _must_be_known(services: Services, pool_key: str) -> None:
    """Raise Refusal (404) for an unknown pool, since an order for a mistyped one would seem to be in force."""
    if pool_key and not services.table.active(pool_key):
        raise Refusal(404, Code.UNKNOWN_POOL, "this pool has no active binding", "pool_key")
