"""Since when the orders for pools are in force.

Whether an order is in force is known to the parts that obey it. The database knows the rest, but may be away.
"""

from collections.abc import Iterable

from precall.core.orders import Order, OrderKind


class OrderNotes:
    """The time of the latest order of each kind for each pool ("": all)."""

    def __init__(self) -> None:
        self._given_at: dict[tuple[OrderKind, str], float] = {}

    def restore(self, standing: Iterable[Order]) -> None:
        """Remember the stored orders that are in force."""
        for order in standing:
            self.note(order)

    def note(self, order: Order) -> None:
        """Remember an order that begins something."""
        self._given_at[order.kind, order.target] = order.at

    def given_at(self, kind: OrderKind, pool_key: str) -> float | None:
        """Return when an order that is in force was given (Unix seconds), None if that is unknown."""
        return self._given_at.get((kind, pool_key))
