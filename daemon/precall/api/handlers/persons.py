"""Handlers that find and erase what is held about a person, known by a phone number.

The number comes in the body, since URLs end up in the logs of proxies. Both are logged with counts and without it.
"""

from collections import Counter
from collections.abc import Sequence

from aiohttp import web

from precall.api.access.authenticator import Client
from precall.api.handlers import order_log
from precall.api.replies import reply
from precall.api.requests import read_body
from precall.api.schemas.persons import ErasureBody, PersonBody, encode_person
from precall.engine.persons import PersonOutcome, PersonPlace, PersonRecord
from precall.engine.services import Services
from precall.telemetry.logging import get_logger

log = get_logger(__name__)

REMAINS = (PersonOutcome.SOURCE_FIRST, PersonOutcome.UNREADABLE)


async def find(request: web.Request, services: Services, client: Client) -> web.StreamResponse:
    """Return what is held about the person with this number, and what an erasure would do to it.

    Numbers compare in any spelling. A number that is only an X is refused (422): it is no person's.
    """
    body = await read_body(request, PersonBody)
    records = await services.persons.find(body.number)
    log.info(
        "person.searched",
        by=client.name or "anonymous",
        peer=request.remote or "",
        found=_counted(records, "where"),
    )
    return reply(encode_person(body.number, records))


async def parties(
    request: web.Request, services: Services, client: Client, number: str, most: int
) -> list[str]:
    """Return the ids of at most `most` bindings in which this valid number is a party. The search is logged."""
    found = await services.persons.parties(number, most)
    log.info(
        "person.searched",
        by=client.name or "anonymous",
        peer=request.remote or "",
        found={PersonPlace.BINDINGS: len(found)},
    )
    return found


async def erase(request: web.Request, services: Services, client: Client) -> web.StreamResponse:
    """Erase the person with this number: remove bindings, blank the history and orders, unlink calls.

    Bindings of a source stay until they are gone from the source, and the exposure audit stays as evidence. The
    request may be repeated; after an error, a repeat completes it.
    """
    body = await read_body(request, ErasureBody)
    order_log.given(request, client, "erase_person", body.reason)
    records = await services.persons.erase(body.number)
    complete = not any(record.outcome in REMAINS for record in records)
    log.info(
        "person.erased",
        by=client.name or "anonymous",
        peer=request.remote or "",
        reason=order_log.shown(body.reason),
        found=_counted(records, "where"),
        outcome=_counted(records, "outcome"),
        complete=complete,
    )
    return reply({**encode_person(body.number, records), "complete": complete})


def _counted(records: Sequence[PersonRecord], name: str) -> dict[str, int]:
    counts: Counter[str] = Counter()
    for record in records:
        counts[str(getattr(record, name))] += record.count
    return dict(counts)
