"""Orders for pools, as forms: pause, resume, engage and release the brake. A reason is required."""

from aiohttp import web
from pydantic import ValidationError

from precall.api.handlers import pool_orders
from precall.api.handlers.pool_orders import PoolOrder
from precall.api.problems import Code, FieldErrors, mistakes
from precall.api.schemas.operations import PoolBody
from precall.console.forms import local_path, read_form, with_done
from precall.console.render import redirect
from precall.console.visit import Visit
from precall.core.errors import Refusal


async def give(visit: Visit) -> web.StreamResponse:
    """Put an order in force, log it, and lead back to the page that it came from."""
    fields = await read_form(visit.request, visit.csrf)
    try:
        order = PoolOrder(fields.get("order", ""))
    except ValueError:
        raise Refusal(422, Code.INVALID_FIELD, "there is no such order", "order") from None
    reason = required_reason(fields)
    try:
        body = PoolBody.model_validate({"pool_key": fields.get("pool_key", ""), "reason": reason})
    except ValidationError as error:
        raise FieldErrors(422, mistakes(error)) from None
    await pool_orders.give(visit.request, visit.services, visit.client, order, body.pool_key, body.reason)
    return redirect(with_done(local_path(fields.get("next", "")), order))


def required_reason(fields: dict[str, str]) -> str:
    """Return the reason of an order. Raises Refusal (422) without one: who reads the order later must know why."""
    reason = fields.get("reason", "").strip()
    if not reason:
        raise Refusal(422, Code.MISSING_FIELD, "an order needs a reason", "reason")
    return reason
