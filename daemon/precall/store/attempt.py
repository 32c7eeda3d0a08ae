"""A transaction with a deadline: how it is cancelled, and what is then known about its outcome."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, TypeVar

from sqlalchemy.ext.asyncio import AsyncConnection

from precall.core.errors import OutcomeUnknown, StoreUnavailable

T = TypeVar("T")
Work = Callable[[AsyncConnection], Awaitable[T]]
"""The body of a transaction."""


async def interrupt(driver_interrupt: Callable[[], Awaitable[None]]) -> None:
    """Interrupt the running statement. A connection that was closed in the meantime has none."""
    with suppress(ValueError):
        await driver_interrupt()


class Attempt:
    """One transaction in progress on the database called `name`."""

    def __init__(self, name: str) -> None:
        self._name = name
        self.given_up = self.committing = False
        self._interrupt: Callable[[], Awaitable[None]] | None = None
        self._drop: Callable[[], None] | None = None

    async def over(self, connection: AsyncConnection) -> None:
        """Register the connection that runs the transaction."""
        raw = await connection.get_raw_connection()
        driver: Any = raw.driver_connection
        self._interrupt = getattr(driver, "interrupt", None)
        self._drop = getattr(driver, "terminate", None)

    async def give_up(self) -> None:
        """Forbid the commit. Interrupt the running statement, or drop the connection where that is impossible."""
        self.given_up = True
        if self._interrupt is not None:
            await interrupt(self._interrupt)
        elif self._drop is not None:
            self._drop()

    async def ended(self, task: "asyncio.Task[T]", patience: float) -> T:
        """Return the result of `task`, or give up after `patience` seconds.

        Raises OutcomeUnknown if the commit had already begun, StoreUnavailable otherwise.
        """
        done, _ = await asyncio.wait({task}, timeout=patience)
        if not done:
            await self.give_up()
            failure = OutcomeUnknown if self.committing else StoreUnavailable
            raise failure(f"{self._name} did not answer within {patience:g} s")
        try:
            return task.result()
        except StoreUnavailable as error:
            if self.committing:
                raise OutcomeUnknown(str(error)) from error
            raise
