"""Overrides."""

from typing import Any, Literal

from precall.api.schemas.fields import Body, NumberOrNone, ResponseModel, Text, Time, moment, second, seconds
from precall.api.schemas.routes import RouteAnswer
from precall.core.model import Action, Override, Row
from precall.core.routing.registration import pinned_number
from precall.core.routing.route import usable


class OverrideBody(Body):
    """A pin: what to say instead, with which number of the binding's own ("": its own), until when, and why."""

    action: Literal["hold", "dial_x", "dial_temp_x"]
    number: NumberOrNone = ""
    until: Time = ""
    reason: Text = ""

    @property
    def order(self) -> tuple[Action, str, float | None, str]:
        """(action, number, until, reason), as the registry takes them."""
        until = seconds(self.until) if self.until else None
        return Action(self.action), self.number, until, self.reason


class OverrideAnswer(ResponseModel):
    """A pin."""

    action: Action
    number: str
    until: str
    reason: str
    created_at: str
    created_by: str


class PinnedAnswer(ResponseModel):
    """The pin as stored, and the route it makes."""

    override: OverrideAnswer
    route: RouteAnswer


def encode_override(row: Row, override: Override) -> dict[str, Any]:
    """The pin of this row. Its number is X or a temporary one as it stands now, never a real one."""
    return {
        "action": override.action,
        "number": pinned_number(row) if usable(row, pinned_number(row)) else "",
        "until": second(override.until),
        "reason": override.reason,
        "created_at": moment(override.created_at),
        "created_by": override.created_by,
    }
