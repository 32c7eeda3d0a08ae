"""The HTTP server: the application made of the table of endpoints, its listeners, TLS, limits, start and stop."""

import asyncio
import logging
import ssl

import orjson
from aiohttp import hdrs, web
from aiohttp.typedefs import Handler

from precall.api import openapi
from precall.api.answers import reply
from precall.api.auth import Gate
from precall.api.bodies import MAX_BODY
from precall.api.endpoints import ENDPOINTS, Endpoint
from precall.api.ops import DOCUMENT
from precall.api.problems import Code, guard, problem
from precall.api.services import Services
from precall.config import ApiConfig, split_address
from precall.core.errors import ListenError

__all__ = ["Server", "Services", "application"]

KEEP_ALIVE = 90.0
"""Seconds an idle connection is kept: longer than the proxies in front of us keep theirs."""

_MIRRORED = (None, "routes:read", "metrics")
"""The scopes of what one that stands by answers, from what the leading daemon has stored."""

_FOLLOWED = {"/v1/routes/changes", "/v1/routes/stream", "/v1/routes/snapshot"}
"""Whose indexes only the leading daemon knows."""

_SOON: dict[str, str] = {hdrs.RETRY_AFTER: "1"}
_LINE = 8190
_HEADERS = 64


def application(server: "Server") -> web.Application:
    """The whole HTTP interface of one daemon."""
    app = web.Application(client_max_size=MAX_BODY, middlewares=[guard])
    app[DOCUMENT] = orjson.dumps(openapi.document(ENDPOINTS, server.version))
    gate = Gate(server.config)
    for endpoint in ENDPOINTS:
        handler = _bound(endpoint, server, gate)
        app.router.add_route(endpoint.method, endpoint.path, handler)
        if endpoint.method == "GET":
            app.router.add_route("HEAD", endpoint.path, handler)
    return app


class Server:
    """Serves a daemon on every address of its configuration. Until it has `services` it says that it is not ready, and
    what it is `waiting` for."""

    def __init__(self, config: ApiConfig, version: str) -> None:
        self.config, self.version = config, version
        self.services: Services | None = None
        self.waiting = "starting: the table is being loaded"
        self._runner: web.AppRunner | None = None

    async def start(self) -> list[str]:
        """Listen; the URLs, in the order of the configuration. ListenError when one is no good."""
        context = _tls(self.config)
        runner = self._runner = web.AppRunner(
            application(self),
            access_log=None,
            logger=_quiet_logger(),
            keepalive_timeout=KEEP_ALIVE,
            lingering_time=0.0,  # `problems.guard` drains; aiohttp would go on when the sender is gone
            max_line_size=_LINE,
            max_field_size=_LINE,
            max_headers=_HEADERS,
        )
        await runner.setup()
        try:
            return [await _listen(runner, address, context) for address in self.config.listen]
        except ListenError:
            await self.stop(0.0)
            raise

    async def stop(self, grace: float) -> None:
        """Take no new connection, give the requests under way `grace` seconds, then cut them off."""
        runner, self._runner = self._runner, None
        if runner is None:
            return
        for site in runner.sites:
            await site.stop()
        if self.services is not None:
            self.services.feed.close()
        await asyncio.sleep(0)  # whoever was just accepted gets to be a request under way
        if runner.server is not None:
            runner.server.pre_shutdown()
            await runner.server.shutdown(grace)
        await runner.cleanup()


def _bound(endpoint: Endpoint, server: Server, gate: Gate) -> Handler:
    """The endpoint's handler behind the gate."""
    mirrored = endpoint.scope in _MIRRORED and endpoint.path not in _FOLLOWED

    async def handle(request: web.Request) -> web.StreamResponse:
        reader = gate.admit(request, endpoint.scope)
        services = server.services
        if services is None:
            return _not_ready(endpoint, server)
        if services.standby and not mirrored:
            detail = (
                "another precall leads on this database; ask that one, or this one once it has taken over"
            )
            return problem(503, Code.STANDBY, detail, headers=_SOON)
        return await endpoint.handle(request, services, reader)

    return handle


def _not_ready(endpoint: Endpoint, server: Server) -> web.Response:
    match endpoint.path:
        case "/healthz":
            return reply({"alive": True, "tick_age": 0.0})
        case "/readyz":
            nothing = {"bindings": 0, "paused": [], "version": server.version}
            return reply({"ready": False, "degraded": [server.waiting], **nothing}, 503)
        case _:
            return problem(503, Code.STARTING, f"not ready; {server.waiting}", headers=_SOON)


async def _listen(runner: web.AppRunner, address: str, context: ssl.SSLContext | None) -> str:
    host, port = split_address(address)
    site = web.TCPSite(runner, host, port, ssl_context=context, backlog=1024)
    known = len(runner.addresses)
    try:
        await site.start()
    except OSError as error:
        reason = error.strerror or str(error)
        raise ListenError(
            f"api.listen: cannot listen on {address}: {reason}; is another program, or another precall, there?"
        ) from error
    port = runner.addresses[known][1]
    shown = f"[{host}]" if ":" in host else host
    return f"{'https' if context else 'http'}://{shown}:{port}"


def _tls(config: ApiConfig) -> ssl.SSLContext | None:
    if not config.tls_cert_file:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(config.tls_cert_file, config.tls_key_file)
    except OSError as error:  # ssl.SSLError is one
        raise ListenError(
            f"api.tls_cert_file {config.tls_cert_file} and api.tls_key_file {config.tls_key_file}"
            f" cannot be used: {error}"
        ) from error
    return context


def _quiet_logger() -> logging.Logger:
    """aiohttp's own complaints, without what was sent: it quotes malformed header lines, a token included."""
    logger = logging.getLogger("precall.api.wire")
    logger.addFilter(_without_cause)
    return logger


def _without_cause(record: logging.LogRecord) -> bool:
    record.exc_info = record.exc_text = None
    return True
