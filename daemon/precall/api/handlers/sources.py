"""Handlers of the sync with the customer's own database."""

from typing import Any

from aiohttp import web

from precall.api.access.authenticator import Client
from precall.api.problems import Code
from precall.api.replies import reply
from precall.api.requests import read_body
from precall.api.schemas.fields import moment
from precall.api.schemas.sources import ApplyBody
from precall.core.errors import Refusal
from precall.engine.services import Services
from precall.engine.source_sync import SourceSync, SyncReport


async def show(_request: web.Request, services: Services, _client: Client) -> web.StreamResponse:
    """Return how the latest sync with the customer's own database ended."""
    return reply(_shown(_source(services).last))


async def apply(request: web.Request, services: Services, _client: Client) -> web.StreamResponse:
    """Sync now. With `force` removals are applied, however many there are."""
    body = await read_body(request, ApplyBody)
    ended = await _source(services).sync(force=body.force)
    if ended.error:
        raise Refusal(503, Code.SOURCE_UNAVAILABLE, ended.error)
    return reply(_shown(ended))


def _source(services: Services) -> SourceSync:
    if services.source is None:
        raise Refusal(404, Code.NO_SOURCE, "no [source] is configured")
    return services.source


def _shown(synced: SyncReport) -> dict[str, Any]:
    return {
        "synced_at": moment(synced.at),
        "compared_at": moment(synced.compared_at),
        "seconds": round(synced.seconds, 3),
        "rows": {str(fate): count for fate, count in synced.counts.items()},
        "removals_refused": synced.guard,
        "refused": [
            {"subs_id": row.subs_id or "", "column": row.column, "detail": row.text} for row in synced.refused
        ],
        "error": synced.error,
    }
