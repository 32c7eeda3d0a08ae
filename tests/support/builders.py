"""Builders of domain values with defaults, so that a test names only what matters to it."""

from dataclasses import replace
from typing import Any

from precall.core.model import Answer, Binding, BindingState, Failure, NonAnswer, Policy, Row, State, Status
from precall.core.orders import Order, OrderKind

NOW = 1_790_000_000.0
X, TEMP, A, B = "17000000001", "17100000001", "13800000001", "13900000001"


def binding(**facts: Any) -> Binding:
    """Return an AXB binding that expires in an hour."""
    base = Binding(
        subs_id="1000000000000001",
        pool_key="FC1",
        number_x=X,
        number_a=A,
        number_b=B,
        expires_at=NOW + 3600.0,
        registered_at=NOW - 60.0,
        generation=1,
    )
    return replace(base, **facts)


def row(state: BindingState | None = None, **facts: Any) -> Row:
    """Return a row of that binding, at version 1."""
    return Row(binding(**facts), state or BindingState(), None, 1, 1)


def answer(status: int, called_no: str = "", **more: Any) -> Answer:
    """Return an answer of the provider, with the usual number for its status."""
    default = {1: X, 2: TEMP, 3: "", 4: X}[status]
    return Answer(Status(status), called_no or default, request_id="R-1", **more)


def failure(kind: Failure, code: str = "code", **more: Any) -> NonAnswer:
    """Return a reply without any information about the binding."""
    return NonAnswer(kind, code, **more)


def order(kind: str, target: str, action: str, **facts: Any) -> Order:
    """Return an order that was given now."""
    base = Order(OrderKind(kind), target, action, "op", NOW)
    return replace(base, **facts)


def pause(pool_key: str = "FC1", action: str = "pause", **facts: Any) -> Order:
    """Return an order to pause a pool, or to `resume` it."""
    return order("pause", pool_key, action, **facts)


def brake(pool_key: str = "FC1", action: str = "engage", **facts: Any) -> Order:
    """Return an order to engage the brake of a pool, or to `release` it."""
    return order("brake", pool_key, action, **facts)


def observed(state: State, age: float = 1.0, **more: Any) -> BindingState:
    """Return a state that one answer led to `age` seconds ago."""
    status = {State.NORMAL: 1, State.TEMPORARY: 2, State.FALLBACK: 3, State.EXPIRED: 4}.get(state, 0)
    at = NOW - age if status else 0.0
    temporary = {"temp_number": TEMP, "temp_at": at, "number": TEMP} if status == 2 else {}
    exposed = {"exposed_at": at} if status == 3 else {}
    base: dict[str, Any] = {
        "state": state,
        "status": status,
        "number": X if status == 1 else "",
        "checked_at": at,
        "seq": 1 if status else 0,
        "streak": 1 if status else 0,
        **temporary,
        **exposed,
    }
    return BindingState(**(base | more))


POLICY = Policy()
