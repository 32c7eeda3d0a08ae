"""A transaction that may take too long: how it is called off, and what is known of it then."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from sqlalchemy.ext.asyncio import AsyncConnection

from precall.core.errors import OutcomeUnknown, StoreUnavailable

T = TypeVar("T")


class Attempt:
    """One transaction under way on the database called `name`."""

    def __init__(self, name: str) -> None:
        self._name = name
        self.given_up = self.committing = False
        self._interrupt: Callable[[], Awaitable[None]] | None = None
        self._drop: Callable[[], None] | None = None

    async def over(self, connection: AsyncConnection) -> None:
        """Name the connection that carries it."""
        raw = await connection.get_raw_connection()
        driver: Any = raw.driver_connection
        self._interrupt = getattr(driver, "interrupt", None)
        self._drop = getattr(driver, "terminate", None)

    async def give_up(self) -> None:
        """It must not commit any more: a statement that runs is interrupted, or its connection dropped."""
        self.given_up = True
        if self._interrupt is not None:
            await self._interrupt()
        elif self._drop is not None:
            self._drop()

    async def ended(self, task: "asyncio.Task[T]", patience: float) -> T:
        """What `task` gives; after `patience` seconds it is given up. OutcomeUnknown where the commit had begun."""
        done, _ = await asyncio.wait({task}, timeout=patience)
        if not done:
            await self.give_up()
            lost = OutcomeUnknown if self.committing else StoreUnavailable
            raise lost(f"{self._name} did not answer within {patience:g} s")
        try:
            return task.result()
        except StoreUnavailable as error:
            if self.committing:
                raise OutcomeUnknown(str(error)) from error
            raise
