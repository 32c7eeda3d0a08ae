"""Who gave the orders in force, when and why.

Whether an order is in force is known to the parts that obey it. This module only remembers what is told about it.
"""

from collections.abc import Mapping
from typing import Any

from precall.core.status.facts import OrderFacts

PAUSE, BRAKE = "pause", "brake"


class OrderNotes:
    """The latest order of each kind for each pool ("": all)."""

    def __init__(self) -> None:
        self._notes: dict[tuple[str, str], OrderFacts] = {}

    def restore(
        self, pauses: Mapping[str, Mapping[str, Any]], brakes: Mapping[str, Mapping[str, Any]]
    ) -> None:
        """Take over the stored orders by pool, with `at` (Unix seconds), `by` and `reason`."""
        for kind, orders in ((PAUSE, pauses), (BRAKE, brakes)):
            for pool_key, order in orders.items():
                self.note(kind, pool_key, at=order["at"], by=order["by"], reason=order["reason"])

    def note(self, kind: str, pool_key: str, *, at: float, by: str, reason: str) -> None:
        """Remember an order."""
        self._notes[kind, pool_key] = OrderFacts(kind, pool_key, _ACTIONS[kind], at, by, reason)

    def of(self, kind: str, pool_key: str) -> OrderFacts:
        """Return an order that is in force, with what is known about it."""
        return self._notes.get((kind, pool_key)) or OrderFacts(kind, pool_key, _ACTIONS[kind])


_ACTIONS = {PAUSE: "pause", BRAKE: "engage"}
