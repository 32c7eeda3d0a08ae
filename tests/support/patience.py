"""How long tests wait for what must come true: far longer than it takes, since a busy machine is no fault."""

import asyncio
from collections.abc import Callable

PATIENCE = 240.0
BRIEF = 3.0
"""A limit of the daemon's own that tests wait out. On a busy machine nothing else that they do takes as long."""


async def until(true: Callable[[], object], patience: float = PATIENCE) -> None:
    """Wait for something that must come true. TimeoutError when it does not."""
    async with asyncio.timeout(patience):
        while not true():
            await asyncio.sleep(0.01)
