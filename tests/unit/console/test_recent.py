"""Answers of the database are shared for a while, and a failed question is asked again."""

import asyncio

import pytest

from precall.console.recent import RecentAnswers
from precall.core.errors import StoreUnavailable


async def test_one_question_is_asked_once_for_all_who_wonder() -> None:
    now, asked = 0.0, 0
    answers = RecentAnswers(lambda: now)

    async def ask() -> int:
        nonlocal asked
        asked += 1
        await asyncio.sleep(0)
        return asked

    assert await asyncio.gather(*(answers.get("calls", 10.0, ask) for _ in range(10))) == [1] * 10
    now = 9.9
    assert await answers.get("calls", 10.0, ask) == 1
    now = 10.0
    assert await answers.get("calls", 10.0, ask) == 2


async def test_a_failure_is_not_kept() -> None:
    answers = RecentAnswers(lambda: 0.0)

    async def fail() -> int:
        raise StoreUnavailable("away")

    async def answer() -> int:
        return 1

    with pytest.raises(StoreUnavailable):
        await answers.get("calls", 10.0, fail)
    assert await answers.get("calls", 10.0, answer) == 1
