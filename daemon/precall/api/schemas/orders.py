"""Orders of operators: overrides, pauses and brakes."""

from typing import Annotated, Any

from pydantic import Field

from precall.api.schemas.fields import CURSOR, OPTIONAL, PageQuery, ResponseModel, moment, second
from precall.core.orders import ListedOrder, OrderKind


class OrdersQuery(PageQuery):
    """Which orders are listed."""

    kind: Annotated[OrderKind | None, Field(description="Only overrides, pauses or brakes.")] = None
    in_force: Annotated[bool, Field(description="Only orders in force.")] = False
    pool_key: Annotated[str, Field(description="Only orders for this pool alone.")] = ""
    subs_id: Annotated[str, Field(description="Only overrides of this binding.")] = ""
    cursor: Annotated[str, Field(description=CURSOR, json_schema_extra={"pattern": r"^[0-9]{0,18}$"})] = ""


class OrderAnswer(ResponseModel):
    """An order of an operator: what, by which token, when, why, until when, and whether it is in force.

    An override names the binding in `subs_id`; a pause and a brake name the pool in `pool_key`, "" for all pools. The
    `action` is that of an override or `lift`, `pause` or `resume`, `engage` or `release`. `until` is "" for an order
    without an end. Numbers in `reason` are masked; without scope `admin`, `by` and `reason` are "".
    """

    kind: OrderKind
    pool_key: str = OPTIONAL
    subs_id: str = OPTIONAL
    action: str
    by: str
    at: str
    reason: str
    until: str
    in_force: bool


class OrderPage(ResponseModel):
    """One page of orders, newest first. `cursor` is that of the next page, "" at the end."""

    orders: list[OrderAnswer]
    cursor: str


def encode_order(listed: ListedOrder, *, by: str, reason: str) -> dict[str, Any]:
    """Return an order as JSON, with the author and the reason that may be shown."""
    order = listed.order
    target = "subs_id" if order.kind is OrderKind.OVERRIDE else "pool_key"
    return {
        "kind": order.kind,
        target: order.target,
        "action": order.action,
        "by": by,
        "at": moment(order.at),
        "reason": reason,
        "until": second(order.until),
        "in_force": listed.in_force,
    }
