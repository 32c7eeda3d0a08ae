"""How long tests wait for a condition: far longer than needed, so that a busy machine fails no test."""

import asyncio
from collections.abc import Callable

PATIENCE = 240.0
BRIEF = 3.0
"""A timeout for the daemon that tests wait out; longer than anything else they do on a busy machine."""


async def until(true: Callable[[], object], patience: float = PATIENCE) -> None:
    """Wait until `true()` is truthy. Raises TimeoutError if that does not happen in `patience` seconds."""
    async with asyncio.timeout(patience):
        while not true():
            await asyncio.sleep(0.01)
