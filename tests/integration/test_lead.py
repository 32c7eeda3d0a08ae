"""Who leads: one of all who ask, until it leaves, dies or loses its session."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack

import pytest
from tests.postgres import Databases, psql

from precall.core.errors import StoreUnavailable
from precall.store import Lead

ENDED = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
WHERE application_name = 'precall' AND datname = current_database()
"""


@pytest.fixture
async def leads(store_url: str) -> AsyncIterator[tuple[Lead, Lead]]:
    """Two who may lead."""
    async with AsyncExitStack() as stack:
        both = Lead(store_url), Lead(store_url)
        for lead in both:
            stack.push_async_callback(lead.leave)
        yield both


async def test_one_leads_until_it_leaves(leads: tuple[Lead, Lead]) -> None:
    first, second = leads
    assert await first.take()
    assert await first.take()
    assert not await second.take()
    await first.leave()
    assert await second.take()
    assert not await first.take()


async def test_leads_of_two_databases_have_nothing_to_do_with_each_other(
    new_store_url: Callable[[], str],
) -> None:
    first, second = Lead(new_store_url()), Lead(new_store_url())
    assert await first.take()
    assert await second.take()
    await first.leave()
    await second.leave()


async def sessions_ended(url: str) -> None:
    """As by a restart of the server."""
    await asyncio.to_thread(psql, url, ENDED)
    await asyncio.sleep(0.1)


@pytest.fixture
def url(databases: Databases) -> Iterator[str]:
    yield databases.new()
    databases.drop()


async def test_who_led_goes_on_when_every_session_was_lost(url: str) -> None:
    """The other one lets it: it has to ask twice."""
    first, second = Lead(url), Lead(url)
    assert await first.take()
    assert not await second.take()
    await sessions_ended(url)
    with pytest.raises(StoreUnavailable, match="broke the connection"):
        await second.take()
    assert await first.take()
    assert not await second.take()
    await first.leave()
    await second.leave()


async def test_who_lost_the_lead_is_told(url: str) -> None:
    first, second = Lead(url), Lead(url)
    assert await first.take()
    await sessions_ended(url)
    assert await second.take()
    assert not await first.take()
    await first.leave()
    await second.leave()


async def test_a_server_that_is_away_cannot_tell() -> None:
    with pytest.raises(StoreUnavailable, match="cannot be reached"):
        await Lead("postgresql://precall@127.0.0.1:1/precall").take()
