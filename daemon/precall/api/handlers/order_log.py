"""The log of orders: what an operator ordered, with which token, and why."""

import re

from aiohttp import web

from precall.api.access.authenticator import Client
from precall.telemetry.logging import get_logger
from precall.telemetry.redaction import HIDDEN, concealed

log = get_logger(__name__)

_LONG_DIGITS = re.compile(r"\d{7,}")


def given(request: web.Request, client: Client, order: str, reason: str = "", **facts: object) -> None:
    """Log an order that is in force now. Numbers are masked in `reason`, since a person typed it."""
    log.info(
        "order.given",
        order=order,
        by=client.name or "anonymous",
        peer=request.remote or "",
        reason=shown(reason),
        **facts,
    )


def shown(reason: str) -> str:
    """Return a reason with runs of seven or more digits, and numbers in groups, masked."""
    return _LONG_DIGITS.sub(HIDDEN, concealed(reason))
