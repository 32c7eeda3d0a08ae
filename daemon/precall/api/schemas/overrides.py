"""Overrides: routes that an operator has set."""

from typing import Any, Literal

from precall.api.schemas.fields import Body, NumberOrNone, ResponseModel, Text, Time, moment, second, seconds
from precall.api.schemas.routes import RouteAnswer
from precall.core.model import Action, Override, Row
from precall.core.routing.registration import override_number
from precall.core.routing.route import usable


class OverrideBody(Body):
    """An override: the action, the number to dial, its end and its reason.

    `number` must belong to the binding; "" stands for X or for the current temporary number, as the action says.
    `until` is "" for an override without an end.
    """

    action: Literal["hold", "dial_x", "dial_temp_x"]
    number: NumberOrNone = ""
    until: Time = ""
    reason: Text = ""

    @property
    def order(self) -> tuple[Action, str, float | None, str]:
        """The action, the number, the end in Unix seconds (None: none) and the reason."""
        until = seconds(self.until) if self.until else None
        return Action(self.action), self.number, until, self.reason


class OverrideAnswer(ResponseModel):
    """An override as it is stored."""

    action: Action
    number: str
    until: str
    reason: str
    created_at: str
    created_by: str


class PinnedAnswer(ResponseModel):
    """The override as it is stored, and the route that follows from it."""

    override: OverrideAnswer
    route: RouteAnswer


def encode_override(row: Row, override: Override, *, by: str, reason: str) -> dict[str, Any]:
    """Return the override of a binding as JSON, with the author and the reason that may be shown.

    Its number is X or a temporary number, never a real one.
    """
    return {
        "action": override.action,
        "number": override_number(row) if usable(row, override_number(row)) else "",
        "until": second(override.until),
        "reason": reason,
        "created_at": moment(override.created_at),
        "created_by": by,
    }
