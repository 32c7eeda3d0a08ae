"""Handlers of the daemon itself: health, metrics, pause, reload and the exposure brake."""

import re
from collections.abc import Iterable

from aiohttp import hdrs, web

from precall.api import runbook
from precall.api.access.authenticator import Client
from precall.api.handlers import order_log, pool_orders
from precall.api.handlers.pool_orders import PoolOrder
from precall.api.problems import HEADERS, Code, FieldError, FieldErrors
from precall.api.replies import reply
from precall.api.requests import read_body, read_query
from precall.api.schemas.operations import PoolBody, ReadyQuery
from precall.config.settings import Difference
from precall.core.errors import ConfigError
from precall.core.status.texts import describe
from precall.engine.services import Services
from precall.telemetry.metrics import CONTENT_TYPE

TICKS_WITHIN = 10.0
"""Seconds since the latest tick of the check loop within which the daemon counts as alive."""

DOCUMENT = web.AppKey("document", bytes)
RUNBOOK = web.AppKey("runbook", bytes)


async def health(_request: web.Request, services: Services, _client: Client) -> web.StreamResponse:
    """Return 200 if the check loop ticked within the last 10 seconds, else 503."""
    age = services.monotonic() - services.checker.ticked_at
    alive = age <= TICKS_WITHIN
    return reply({"alive": alive, "tick_age": round(age, 3)}, 200 if alive else 503)


async def readiness(request: web.Request, services: Services, _client: Client) -> web.StreamResponse:
    """Return 200 if reads are answered, and what is wrong nevertheless.

    With `for=writes`, 503 while registrations cannot be stored.
    """
    writes = read_query(request, ReadyQuery).for_ == "writes"
    ready = services.writer.saving or not writes
    found = services.status.look().findings
    data = {
        "ready": ready,
        "degraded": [f"{finding.code}: {describe(finding).summary}" for finding in found],
        "findings": sorted({finding.code for finding in found}),
        "bindings": len(services.table),
        "paused": sorted(services.checker.plan.paused),
        "promise": services.settings.policy.promise,
        "version": services.version,
    }
    return reply(data, 200 if ready else 503)


async def metrics(_request: web.Request, services: Services, _client: Client) -> web.StreamResponse:
    """Return all metrics in the Prometheus text format."""
    return web.Response(body=services.metrics.render(), headers={**HEADERS, hdrs.CONTENT_TYPE: CONTENT_TYPE})


async def document(request: web.Request, _services: Services, _client: Client) -> web.StreamResponse:
    """Return this OpenAPI document."""
    return web.Response(body=request.app[DOCUMENT], headers=HEADERS, content_type="application/json")


async def explain_findings(request: web.Request, _services: Services, _client: Client) -> web.StreamResponse:
    """Return the runbook as a page, with an anchor for each finding and each alert, such as `#brake_engaged`.

    It holds nothing of this system.
    """
    return runbook.response(request.app[RUNBOOK])


async def pause(request: web.Request, services: Services, client: Client) -> web.StreamResponse:
    """Pause the background checks of a pool, or of all pools. Routes are still served.

    The pause survives a restart.
    """
    body = await read_body(request, PoolBody)
    await pool_orders.give(request, services, client, PoolOrder.PAUSE, body.pool_key, body.reason)
    return reply({"paused": sorted(services.checker.plan.paused)})


async def resume(request: web.Request, services: Services, client: Client) -> web.StreamResponse:
    """Resume the background checks of a pool, or of all pools."""
    body = await read_body(request, PoolBody)
    await pool_orders.give(request, services, client, PoolOrder.RESUME, body.pool_key, body.reason)
    return reply({"paused": sorted(services.checker.plan.paused)})


async def reload(request: web.Request, services: Services, client: Client) -> web.StreamResponse:
    """Read the configuration file again and apply it, as SIGHUP does.

    With a mistake in the file nothing changes, and 422 lists all mistakes.
    """
    order_log.given(request, client, "reload")
    try:
        found = await services.reload()
    except ConfigError as error:
        raise FieldErrors(422, [_mistake(line) for line in error.mistakes]) from None
    return reply({"changed": _differences(found.changed), "needs_restart": _differences(found.needs_restart)})


async def engage(request: web.Request, services: Services, client: Client) -> web.StreamResponse:
    """Engage the exposure brake of a pool, or of all pools: no further real number is handed out.

    The brake survives a restart.
    """
    body = await read_body(request, PoolBody)
    await pool_orders.give(request, services, client, PoolOrder.ENGAGE, body.pool_key, body.reason)
    return _braked(services, body.pool_key)


async def release(request: web.Request, services: Services, client: Client) -> web.StreamResponse:
    """Release the exposure brake of a pool, or of all pools, and start a fresh cap.

    Bindings on hold turn to their real numbers at once, as far as that cap allows, without another check.
    """
    body = await read_body(request, PoolBody)
    await pool_orders.give(request, services, client, PoolOrder.RELEASE, body.pool_key, body.reason)
    return _braked(services, body.pool_key)


def _differences(found: Iterable[Difference]) -> list[dict[str, str]]:
    return [{"key": one.key, "before": one.before, "after": one.after} for one in found]


def _mistake(line: str) -> FieldError:
    """ "provider.rate: must be ..." as the key and what is wrong with it."""
    key, colon, detail = line.partition(": ")
    known = colon and re.fullmatch(r"[a-z_.0-9]+", key)
    return (
        FieldError(key, Code.BAD_CONFIGURATION, detail)
        if known
        else FieldError("", Code.BAD_CONFIGURATION, line)
    )


def _braked(services: Services, pool_key: str) -> web.Response:
    return reply({"pool_key": pool_key, "halted": services.checker.brake.halted(pool_key)})
