"""Who gave the orders in force, when and why.

Whether an order is in force is known to the parts that obey it. This module only remembers what is told about it.
"""

from collections.abc import Iterable

from precall.core.orders import ENGAGE, PAUSE, Order, OrderKind
from precall.core.status.facts import OrderFacts

_ACTIONS = {OrderKind.PAUSE: PAUSE, OrderKind.BRAKE: ENGAGE}


class OrderNotes:
    """The latest order of each kind for each pool ("": all)."""

    def __init__(self) -> None:
        self._notes: dict[tuple[OrderKind, str], OrderFacts] = {}

    def restore(self, standing: Iterable[Order]) -> None:
        """Remember the stored orders that are in force."""
        for order in standing:
            self.note(order)

    def note(self, order: Order) -> None:
        """Remember an order that begins something."""
        self._notes[order.kind, order.target] = OrderFacts(
            order.kind, order.target, order.action, order.at, order.by, order.reason
        )

    def of(self, kind: OrderKind, pool_key: str) -> OrderFacts:
        """Return an order that is in force, with what is known about it."""
        return self._notes.get((kind, pool_key)) or OrderFacts(kind, pool_key, _ACTIONS[kind])
