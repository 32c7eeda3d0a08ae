"""Answers of the database that all visitors share for a while, so that ten consoles cost it as much as one."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

T = TypeVar("T")


class RecentAnswers:
    """Keeps the latest answer to each question. `clock` is in seconds and never decreases."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._known: dict[str, tuple[float, Any]] = {}
        self._asking: dict[str, asyncio.Lock] = {}

    async def get(self, question: str, within: float, ask: Callable[[], Awaitable[T]]) -> T:
        """Return the answer to a question, at most `within` seconds old. Raises what `ask` raises, and keeps nothing.

        There are as many locks as questions: these are few, and fixed.
        """
        async with self._asking.setdefault(question, asyncio.Lock()):
            at, answer = self._known.get(question, (0.0, None))
            if question not in self._known or self._clock() - at >= within:
                answer = await ask()
                self._known[question] = (self._clock(), answer)
            return answer  # type: ignore[no-any-return]
