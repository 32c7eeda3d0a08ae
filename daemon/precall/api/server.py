"""The HTTP server: an application made from the table of endpoints, its listeners and limits."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from functools import cache, partial

import orjson
from aiohttp import HttpVersion11, hdrs, web
from aiohttp.typedefs import Handler

from precall.api import openapi, runbook
from precall.api.access import connections
from precall.api.access.authenticator import ANYBODY, Authenticator, Client
from precall.api.access.connections import Connection, ConnectionRegistry
from precall.api.access.tls import CertificateWatch
from precall.api.endpoints import ENDPOINTS
from precall.api.handlers.operations import DOCUMENT, RUNBOOK
from precall.api.operation import Operation
from precall.api.problems import Code, guard, problem
from precall.api.replies import reply
from precall.api.requests import MAX_BATCH_BODY
from precall.concurrency import cancel_and_wait, guarded
from precall.config.addresses import split_address
from precall.config.schema import ApiConfig
from precall.core.errors import ListenError
from precall.core.role import CurrentRole, Role, WaitingFor
from precall.core.status.finding import FindingCode
from precall.engine.process_state import CertificateEnd
from precall.engine.services import Services
from precall.telemetry.logging import get_logger
from precall.telemetry.metrics import Metrics

log = get_logger(__name__)

Mount = Callable[[web.Application, "Server"], None]
"""Adds routes to an application, such as those of the console."""

__all__ = ["Server", "Services", "application"]

KEEP_ALIVE = 90.0
"""Seconds an idle connection is kept open: longer than proxies in front of the daemon keep theirs."""

_MIRRORED = (None, "routes:read", "metrics")
"""Scopes that a daemon on standby answers, from what the leader has stored."""

_LISTED = {"/v1/orders"}
"""What such a daemon also answers in the same way, under another scope."""

_FOLLOWED = {"/v1/routes/changes", "/v1/routes/stream", "/v1/routes/snapshot"}
"""Endpoints whose indexes only the leader knows. A request lasts while there are changes, or a table, to send."""

_PUSHED = {"/v1/receipts/{secret}"}
"""Endpoints without a token, although only the leader may store what they receive."""

_PLAIN = {endpoint.path for endpoint in ENDPOINTS if "{" not in endpoint.path}

_WAITING = {
    WaitingFor.TABLE: ("starting", "the table is being loaded"),
    WaitingFor.DATABASE: (
        FindingCode.DATABASE_DOWN,
        "the database is out of reach; it is tried every second",
    ),
    WaitingFor.LEADER: (
        FindingCode.NOT_LEADING,
        "another precall leads on this database, which cannot be read yet",
    ),
}

WATCH = 1.0
"""Seconds between two checks of the connections, the wrong tokens and the TLS files."""

HANDSHAKE = 10.0
"""Seconds allowed for a TLS handshake."""

_OWN = {"/-/reload"}
"""Endpoints that concern this daemon alone, in any role."""

_PUBLIC = {"/runbook"}
"""Pages that hold nothing of this system. Links on any site may lead there."""

_PROBED = {"/healthz", "/readyz"}
"""What every listener answers."""

_SOON: dict[str, str] = {hdrs.RETRY_AFTER: "1"}
_LINE = 8190
_HEADERS = 64


def application(server: "Server") -> web.Application:
    """Make the HTTP application of a daemon, with its console unless that has listeners of its own."""
    app = _bare_application()
    if server.config.console and not server.config.console_listen:
        server.pages(app, server)
    app[RUNBOOK] = _runbook()
    app[DOCUMENT] = _document(server.version)
    for endpoint in ENDPOINTS:
        _route(app, endpoint, server)
    return app


def _console_application(server: "Server") -> web.Application:
    """Make the application of listeners that serve the console only, and what a proxy in front of it asks."""
    app = _bare_application()
    server.pages(app, server)
    for endpoint in ENDPOINTS:
        if endpoint.path in _PROBED:
            _route(app, endpoint, server)
    return app


def _route(app: web.Application, endpoint: Operation, server: "Server") -> None:
    handler = _bound(endpoint, server)
    for method in ("GET", "HEAD") if endpoint.method == "GET" else (endpoint.method,):
        app.router.add_route(method, _pattern(endpoint.path), handler, expect_handler=_go_on)


def _bare_application() -> web.Application:
    return web.Application(client_max_size=MAX_BATCH_BODY, middlewares=[guard])


def _no_pages(_app: web.Application, _server: "Server") -> None:
    """Add nothing."""


class Server:
    """Serves a daemon on every address of its configuration. Until it has `services` it answers that it is not ready,
    and what it waits for."""

    def __init__(
        self,
        config: ApiConfig,
        version: str,
        metrics: Metrics,
        clock: Callable[[], float],
        waiting: CurrentRole | None = None,
        broken: Callable[[BaseException], None] = lambda _error: None,
        pages: Mount = _no_pages,
    ) -> None:
        """`clock` is in seconds and never decreases. `waiting` is the role until there are services. `broken` is called
        with the error that ends the watch over connections, tokens and certificates, should one do so. `pages` adds the
        console."""
        self.config, self.version = config, version
        self.pages = pages
        self.console_urls: list[str] = []
        """Where the console is served: the roots of its URLs, in the order of the configuration."""
        self.services: Services | None = None
        self.stopping = False
        """Set once no new connection is accepted: streams end by themselves."""
        self._waiting = waiting or CurrentRole(Role.WAITING)
        self.gate = Authenticator(config, metrics, clock)
        self.crowd = ConnectionRegistry(config.max_connections, metrics, clock)
        self._metrics, self._broken = metrics, broken
        self._certificates: CertificateWatch | None = None
        self._runners: list[web.AppRunner] = []
        self._listeners: list[asyncio.Server] = []
        self._watch: asyncio.Task[None] | None = None

    @property
    def waits_for(self) -> str:
        """What a daemon without services waits for, in a sentence."""
        code, sentence = _WAITING[self._waiting.waiting_for]
        return f"{code}: {sentence}"

    @property
    def findings(self) -> list[FindingCode]:
        """What is wrong with a daemon without services."""
        code, _ = _WAITING[self._waiting.waiting_for]
        return [code] if isinstance(code, FindingCode) else []

    async def start(self) -> list[str]:
        """Listen. Returns the URLs in the order of the configuration. Raises ListenError for an unusable address."""
        if self.config.tls_cert_file:
            self._certificates = CertificateWatch(self.config, self._count_reload)
        try:
            urls = await self._serve(application(self), "api.listen", self.config.listen)
            console = self.config.console_listen if self.config.console else []
            if console:
                self.console_urls = await self._serve(
                    _console_application(self), "api.console_listen", console
                )
            elif self.config.console:
                self.console_urls = urls
        except ListenError:
            await self.stop(0.0)
            raise
        self._watch = guarded(self._look_after(), "api watch", self._broken)
        return urls

    def admit(self, config: ApiConfig) -> None:
        """Put the tokens and limits of `config` in force. The listeners stay."""
        if config != self.config:
            self.config = config
            self.gate.retune(config)
            self.crowd.most = config.max_connections

    @property
    def certificate(self) -> CertificateEnd | None:
        """When the certificate of the listeners ends; None without TLS."""
        return self._certificates.end if self._certificates is not None else None

    def renew_certificates(self) -> None:
        """Read the TLS files again if they changed; without TLS do nothing."""
        if self._certificates is not None:
            self._certificates.renew()

    async def stop(self, grace: float) -> None:
        """Accept no new connections, give requests in flight `grace` seconds, then cut them off."""
        runners, self._runners = self._runners, []
        if not runners:
            return
        self.stopping = True
        for listener in self._listeners:
            listener.close()
        self._listeners.clear()
        if self.services is not None:
            self.services.feed.close()
        await asyncio.sleep(0)  # a connection accepted just now becomes a request in flight
        await asyncio.gather(*(_shut(runner, grace) for runner in runners))
        if self._watch is not None:
            await cancel_and_wait(self._watch)
        self.gate.guessing.report(ending=True)

    async def _serve(self, app: web.Application, key: str, addresses: Sequence[str]) -> list[str]:
        """Serve an application on the addresses of a key of the configuration. Returns its URLs. Raises ListenError."""
        runner = web.AppRunner(app)
        self._runners.append(runner)
        await runner.setup()
        if runner.server is None:
            raise AssertionError("a runner that was set up has no server")
        connect = partial(
            Connection,
            runner.server,
            self.crowd,
            loop=asyncio.get_running_loop(),
            access_log=None,
            logger=_quiet_logger(),
            keepalive_timeout=KEEP_ALIVE,
            lingering_time=0.0,  # `problems.guard` drains; aiohttp would go on when the sender is gone
            auto_decompress=False,
            max_line_size=_LINE,
            max_field_size=_LINE,
            max_headers=_HEADERS,
        )
        return [await self._listen(connect, key, address) for address in addresses]

    async def _listen(self, connect: Callable[[], Connection], key: str, address: str) -> str:
        host, port = split_address(address)
        context = self._certificates.context if self._certificates else None
        loop = asyncio.get_running_loop()
        try:
            listener = await loop.create_server(
                connect,
                host,
                port,
                backlog=1024,
                ssl=context,
                ssl_handshake_timeout=HANDSHAKE if context else None,
            )
        except OSError as error:
            reason = error.strerror or str(error)
            raise ListenError(
                f"{key}: cannot listen on {address}: {reason}; is another program, or another precall, there?"
            ) from error
        self._listeners.append(listener)
        port = listener.sockets[0].getsockname()[1]
        shown = f"[{host}]" if ":" in host else host
        return f"{'https' if context else 'http'}://{shown}:{port}"

    async def _look_after(self) -> None:
        while True:
            await asyncio.sleep(WATCH)
            await self.crowd.sweep()
            self.gate.guessing.report()
            await asyncio.to_thread(self.renew_certificates)

    def _count_reload(self, result: str) -> None:
        self._metrics.tls_reloads.labels(result).inc()


async def _shut(runner: web.AppRunner, grace: float) -> None:
    """Give the requests of a runner `grace` seconds to end, then cut them off."""
    if runner.server is not None:
        runner.server.pre_shutdown()
        await runner.server.shutdown(grace)
    await runner.cleanup()


def _bound(endpoint: Operation, server: Server) -> Handler:
    """The endpoint's handler behind authentication and limits."""
    waits, answer = endpoint.path in _FOLLOWED, _answering(endpoint, server)
    public = endpoint.path in _PUBLIC

    async def handle(request: web.Request) -> web.StreamResponse:
        gate = server.gate
        reader = ANYBODY if public else gate.admit(request, endpoint.scope)
        connections.of(request).begin(known=reader is not ANYBODY)
        if (allowance := reader.allowance) is None:
            return await answer(request, reader)
        gate.enter(allowance, waits=waits)
        try:
            return await answer(request, reader)
        finally:
            allowance.leave(waits=waits)

    return handle


def _answering(
    endpoint: Operation, server: Server
) -> Callable[[web.Request, Client], Awaitable[web.StreamResponse]]:
    """The endpoint's handler, or a refusal while the daemon is not ready or does not lead."""
    mirrored = (
        endpoint.scope in _MIRRORED and endpoint.path not in _FOLLOWED | _PUSHED
    ) or endpoint.path in _OWN | _LISTED

    async def answer(request: web.Request, reader: Client) -> web.StreamResponse:
        services = server.services
        if services is None:
            return _not_ready(request, endpoint, server)
        if not services.role.leads and not mirrored:
            detail = (
                "another precall leads on this database; ask that one, or this one once it has taken over"
            )
            return problem(503, Code.STANDBY, detail, headers=_SOON)
        return await endpoint.handle(request, services, reader)

    return answer


def _not_ready(request: web.Request, endpoint: Operation, server: Server) -> web.Response:
    match endpoint.path:
        case "/healthz":
            return reply({"alive": True, "tick_age": 0.0})
        case "/runbook":
            return runbook.response(request.app[RUNBOOK])
        case "/readyz":
            nothing = {"bindings": 0, "paused": [], "version": server.version}
            wrong = {"degraded": [server.waits_for], "findings": server.findings}
            return reply({"ready": False, **wrong, **nothing}, 503)
        case _:
            return problem(503, Code.STARTING, f"not ready; {server.waits_for}", headers=_SOON)


@cache
def _runbook() -> bytes:
    return runbook.page(runbook.text())


@cache
def _document(version: str) -> bytes:
    return orjson.dumps(openapi.document(ENDPOINTS, version))


def _pattern(path: str) -> str:
    """A path for the router. A segment that is the name of another endpoint is never taken for an id."""
    parent, found, rest = path.partition("{subs_id}")
    if not found:
        return path
    names = "|".join(sorted({other[len(parent) :] for other in _PLAIN if other.startswith(parent)}))
    return f"{parent}{{subs_id:{f'(?!(?:{names})$)' if names else ''}[^/]+}}{rest}"


async def _go_on(request: web.Request) -> None:
    """Answer `Expect: 100-continue`; ignore any other expectation."""
    if request.headers.get(hdrs.EXPECT, "").lower() == "100-continue" and request.version >= HttpVersion11:
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.writer.output_size = 0


def _quiet_logger() -> logging.Logger:
    """The logger for aiohttp's own errors, without causes: they quote malformed header lines, tokens included."""
    logger = logging.getLogger("precall.api.wire")
    logger.addFilter(_without_cause)
    return logger


def _without_cause(record: logging.LogRecord) -> bool:
    record.exc_info = record.exc_text = None
    return True
