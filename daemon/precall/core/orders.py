"""Orders of operators: overrides, pauses and brakes, and which of them are in force.

Orders are only ever appended. What is in force follows from them and from the bindings there are.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

PAUSE: Final = "pause"
RESUME: Final = "resume"
ENGAGE: Final = "engage"
RELEASE: Final = "release"
LIFT: Final = "lift"

ENDS = frozenset({RESUME, RELEASE, LIFT})
"""The actions that end earlier orders. All others begin something."""


class OrderKind(StrEnum):
    """What is ordered."""

    OVERRIDE = "override"
    PAUSE = "pause"
    BRAKE = "brake"


OF_POOLS = frozenset({OrderKind.PAUSE, OrderKind.BRAKE})


@dataclass(frozen=True, slots=True)
class Order:
    """An order: who ordered what, when, why, and until when.

    `target` is the id of a binding for an override, else a pool key ("": all pools). `action` is that of an override or
    `lift`, `pause` or `resume`, `engage` or `release`. `until` is None for an order without an end. An override belongs
    to a `generation` of its binding. A later order has a higher `id`; it is 0 before the order is stored.
    """

    kind: OrderKind
    target: str
    action: str
    by: str
    at: float
    reason: str = ""
    until: float | None = None
    generation: int = 0
    id: int = 0

    def __repr__(self) -> str:
        return f"Order({self.id}, {self.kind} {self.action}, target={self.target!r})"

    @property
    def ends(self) -> bool:
        """Whether the order ends earlier ones instead of beginning something."""
        return self.action in ENDS

    @property
    def ends_all(self) -> bool:
        """Whether the order ends those of every pool."""
        return self.ends and self.kind in OF_POOLS and not self.target


@dataclass(frozen=True, slots=True)
class ListedOrder:
    """An order, and whether it is in force."""

    order: Order
    in_force: bool


def in_force(orders: Iterable[Order], generations: Mapping[str, int], now: float) -> list[Order]:
    """Return those of `orders` that are in force at `now` (Unix seconds), oldest first.

    A later order replaces an earlier one of the same kind for the same target. An order that ends those of every pool
    does so for each of them; any other order for all pools ("") stands beside those for single ones. An override is
    over with its time, or with the generation it was given for: `generations` has that of each binding there is.

    `orders` may lack those that were replaced by a later one for the same target, except the newest of each kind that
    ends all.
    """
    newest: dict[tuple[OrderKind, str], Order] = {}
    for order in sorted(orders, key=lambda each: each.id):
        if order.ends_all:
            newest = {key: kept for key, kept in newest.items() if key[0] is not order.kind}
        newest[order.kind, order.target] = order
    standing = (
        order for order in newest.values() if not order.ends and not _is_over(order, generations, now)
    )
    return sorted(standing, key=lambda each: each.id)


def _is_over(order: Order, generations: Mapping[str, int], now: float) -> bool:
    if order.until is not None and now >= order.until:
        return True
    return order.kind is OrderKind.OVERRIDE and generations.get(order.target) != order.generation
