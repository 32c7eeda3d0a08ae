"""Orders in the log: what was ordered, by whom, and why."""

import re

from aiohttp import web

from precall.api.access.authenticator import Client
from precall.telemetry.logging import get_logger
from precall.telemetry.redaction import HIDDEN, concealed

log = get_logger(__name__)

_LONG_DIGITS = re.compile(r"\d{7,}")


def given(request: web.Request, reader: Client, order: str, reason: str = "", **facts: object) -> None:
    """Log an order that is in force now. `reason` is what a person typed: what could be a number in it is masked."""
    log.info(
        "order.given",
        order=order,
        by=reader.name or "anonymous",
        peer=request.remote or "",
        reason=shown(reason),
        **facts,
    )


def shown(reason: str) -> str:
    """A reason fit to be shown: runs of seven or more digits, and numbers in groups, are masked."""
    return _LONG_DIGITS.sub(HIDDEN, concealed(reason))
