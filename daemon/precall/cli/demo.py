"""The demonstration: a simulated provider, the daemon, and a dispatcher that asks and dials, all in this process.

This module runs it, and `cli.demo_view` displays it. `cli.demo_story` puts it into words. The daemon is queried
over its public HTTP API; only the list of changes reads its table directly.
"""

import asyncio
import tempfile
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from precall.cli.client import DaemonClient
from precall.cli.demo_story import DemoCaption, Story
from precall.config.schema import Config
from precall.core.errors import ListenError, OutOfReach
from precall.core.model import Action, Row, State
from precall.core.numbers import mask
from precall.runtime.daemon import Daemon
from precall.simulator import (
    DEMO_SPEED,
    CallTally,
    Dispatcher,
    SimBinding,
    Simulator,
    demo_scenario,
    failed,
)

PORT = 8080
RATE = 80
STEP = 0.125
GLANCE = 1.0
BEGINNING = "{bindings} bindings are registered; until checked, each dials X"
TICKER = 3
"""How many changes are shown per step; others are only counted."""
CALLS_PER_STEP = 3
MOST_POINTS = 600
"""How many points the curves keep; with more, every second one is dropped."""
OBSERVED = "FC100005"
"""The pool that is only observed."""


@dataclass(frozen=True, slots=True)
class DemoSettings:
    """How to run the demonstration.

    Without `seconds` it runs until it is stopped. Without a `folder` the database is temporary. Without a `port` it
    uses 8080 or any free one.
    """

    seconds: float | None
    folder: Path | None
    port: int | None
    clock: Callable[[], float]
    monotonic: Callable[[], float]
    stop_signal: Callable[[], asyncio.Event]


@dataclass(frozen=True, slots=True)
class RouteMove:
    """A changed route as a dispatcher without a caller sees it, with a masked number."""

    at: float
    subs_id: str
    before: str
    after: str
    action: str
    number: str
    reason: str


@dataclass(frozen=True, slots=True)
class FailedSoFar:
    """How many calls had failed after `seconds`: by precall's routes, and the same calls by X alone."""

    seconds: float
    routed: int
    alone: int


@dataclass(slots=True)
class DemoTally:
    """What has happened so far.

    `report` holds what precall itself has learned about the calls, `brakes` the exposure brake of each pool, as the API
    returns them. `failures` are the points of the curves.
    """

    seconds: float = 0.0
    bindings: int = 0
    checks: int = 0
    checks_per_second: float = 0.0
    changes: int = 0
    routes: Counter[str] = field(default_factory=Counter)
    calls: CallTally = field(default_factory=CallTally)
    report: dict[str, Any] = field(default_factory=dict)
    brakes: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    failures: list[FailedSoFar] = field(default_factory=list)

    def note_failures(self) -> None:
        """Add a point to the curves."""
        if len(self.failures) >= MOST_POINTS:
            del self.failures[1::2]
        self.failures.append(
            FailedSoFar(self.seconds, failed(self.calls.routed)[0], failed(self.calls.alone)[0])
        )


class Stage(Protocol):
    """Shows the demonstration."""

    def opened(self, url: str, provider: str, bindings: int) -> None: ...
    def add_caption(self, caption: DemoCaption) -> None: ...
    def moved(self, change: RouteMove) -> None: ...
    def glance(self, tally: DemoTally) -> None: ...


async def play(settings: DemoSettings, stage: Stage) -> DemoTally:
    """Run until `stop_signal`, or for `settings.seconds`. Raises ListenError if the given port is taken."""
    stopped = settings.stop_signal()
    async with AsyncExitStack() as stack:
        folder = settings.folder or Path(
            stack.enter_context(tempfile.TemporaryDirectory(prefix="precall-demo-"))
        )
        simulator = Simulator(demo_scenario(), settings.clock, DEMO_SPEED)
        provider = await stack.enter_async_context(simulator.running())
        daemon, url, remark = await _serve(stack, provider, folder, settings.port)
        client = await stack.enter_async_context(DaemonClient(url, ""))
        show = _Show(settings, stage, simulator, daemon, client)
        bindings = await show.register()
        dispatcher = await stack.enter_async_context(simulator.dispatcher(url, bindings))
        simulator.push_receipts(f"{url}/v1/receipts")
        stage.opened(url, provider, show.tally.bindings)
        for text in filter(None, (remark, BEGINNING.format(bindings=show.tally.bindings))):
            stage.add_caption(DemoCaption(0.0, text))
        await show.go_on(dispatcher, stopped)
        return show.tally


class _Show:
    """The steps of the demonstration, and its ticker of changes."""

    def __init__(
        self, settings: DemoSettings, stage: Stage, simulator: Simulator, daemon: Daemon, client: DaemonClient
    ) -> None:
        self.tally = DemoTally()
        self._settings, self._stage = settings, stage
        self._simulator, self._daemon, self._client = simulator, daemon, client
        self._story = Story(simulator.service.faults.planned())
        self._bindings: set[str] = set()
        self._changed: deque[tuple[str, str]] = deque(maxlen=100)

    async def register(self) -> list[SimBinding]:
        """Register all bindings of the simulator that have not expired."""
        soon = self._settings.clock() + 1
        known = [b for b in self._simulator.bindings() if b.expires_at is None or b.expires_at > soon]
        self._daemon.parts.table.listeners.append(self._on_change)
        answer = await self._ask(
            "POST", "/v1/bindings/batch", body={"bindings": [as_registered(b) for b in known]}
        )
        stored = {item["subs_id"] for item in answer["results"] if item["result"] != "refused"}
        self._bindings = {b.subs_id for b in known} & stored
        self.tally.bindings = len(self._bindings)
        return [b for b in known if b.subs_id in stored]

    async def go_on(self, dispatcher: Dispatcher, stopped: asyncio.Event) -> None:
        """Place some calls and show some changes per step, until the end."""
        self.tally.calls = dispatcher.tally
        monotonic, length = self._settings.monotonic, self._settings.seconds
        begun = looked = monotonic()
        await self._look(0.0)
        while not stopped.is_set() and (length is None or monotonic() - begun < length):
            for _ in range(CALLS_PER_STEP):
                await dispatcher.place_call()
            await dispatcher.report()
            await self._tell_changes()
            now = monotonic()
            self.tally.seconds = now - begun
            self._tell(self._story.due(self._settings.clock(), self.tally.seconds))
            if now - looked >= GLANCE:
                await self._look(now - looked)
                looked = now
            await _sleep_unless(stopped, STEP)
        self.tally.seconds = monotonic() - begun
        self.tally.report = await self._ask("GET", "/v1/report")

    def _on_change(self, before: Row | None, after: Row | None) -> None:
        if before is None or after is None:
            return
        self.tally.changes += 1
        self._changed.append((after.binding.subs_id, before.state.state))

    async def _tell_changes(self) -> None:
        for _ in range(min(TICKER, len(self._changed))):
            subs_id, before = self._changed.popleft()
            route = await self._ask("GET", f"/v1/routes/{subs_id}", params={"dial": "0"})
            confirmed = before == State.UNVERIFIED and route["action"] == Action.DIAL_X
            if route["state"] != before and not confirmed:  # that X works was assumed before
                self._stage.moved(
                    RouteMove(
                        at=self._settings.clock(),
                        subs_id=subs_id,
                        before=before,
                        after=route["state"],
                        action=route["action"],
                        number=mask(route["number"]),
                        reason=_reason(route),
                    )
                )

    async def _look(self, since: float) -> None:
        """Look at routes, checks, calls and the state of the system. `since` is in seconds, 0 at the start."""
        listed = await self._ask("GET", "/v1/routes", params={"limit": "1000"})
        shown = Counter(r["action"] for r in listed["routes"] if r["subs_id"] in self._bindings)
        self.tally.routes = Counter({action: shown[action] for action in Action})
        checks = self._simulator.calls_received["QueryCallStatus"]
        if since:
            self.tally.checks_per_second = (checks - self.tally.checks) / since
        self.tally.checks = checks
        self.tally.report = await self._ask("GET", "/v1/report")
        status = await self._ask("GET", "/v1/status")
        self.tally.brakes = {pool["pool_key"]: pool["brake"] for pool in status["pools"]}
        self.tally.note_failures()
        self._tell(self._story.noticed(status["findings"], self.tally.seconds))
        self._stage.glance(self.tally)

    def _tell(self, captions: Iterable[DemoCaption]) -> None:
        for caption in captions:
            self._stage.add_caption(caption)

    async def _ask(
        self, method: str, path: str, *, params: dict[str, str] | None = None, body: object = None
    ) -> dict[str, Any]:
        status, content = await self._client.request(method, path, params=params, json=body)
        if status >= 400 or not isinstance(content, dict):
            raise OutOfReach(
                f"the demonstration's own daemon answers {status} to {method} {path.partition('?')[0]}"
            )
        return content


def as_registered(binding: SimBinding) -> dict[str, Any]:
    """Return a simulated binding as the body of a registration."""
    end = binding.expires_at
    registered: dict[str, Any] = {
        "subs_id": binding.subs_id,
        "pool_key": binding.pool_key,
        "number_x": binding.number_x,
        "number_a": binding.number_a,
        "number_b": binding.number_b,
        "extension": binding.extension,
    }
    if end is not None:
        registered["expires_at"] = datetime.fromtimestamp(end, UTC).isoformat()
    return registered


def _config(provider: str, folder: Path, port: int) -> Config:
    """Return a configuration ten times as fast as the default. The environment is not read."""
    return Config(
        _env_prefix="PRECALL_DEMONSTRATION_",
        provider={
            "endpoint": provider,
            "call_detail_endpoint": provider,
            "access_key_id": "demo",
            "access_key_secret": "demo-secret",
            "rate": RATE,
            "call_detail_rate_per_minute": 100 * DEMO_SPEED,
        },
        store={"url": f"sqlite:///{folder.resolve() / 'precall.db'}", "timeout": "10s"},
        api={"listen": f"127.0.0.1:{port}"},
        freshness={
            "max_age": "15s",
            "abnormal_max_age": "6s",
            "min_interval": "1s",
            "abnormal_min_interval": "3s",
        },
        policy={"skew": "1s", "observe": [OBSERVED]},
    )


def _reason(route: Mapping[str, Any]) -> str:
    """Return the reason of a route and, in an observed pool, the action it would have if that is another one."""
    would = route.get("would", route)["action"]
    return str(route["reason"]) if would == route["action"] else f"{route['reason']}, would {would}"


async def _serve(
    stack: AsyncExitStack, provider: str, folder: Path, wanted: int | None
) -> tuple[Daemon, str, str]:
    """Start the daemon, and return it with its URL and a remark about its port.

    The daemon itself tries the port, since looking first whether it is free would be a race.
    """
    remark = ""
    daemon = Daemon(_config(provider, folder, PORT if wanted is None else wanted))
    try:
        [url] = await stack.enter_async_context(daemon.running())
    except ListenError:
        if wanted is not None:
            raise
        remark = f"port {PORT} is taken, so another one is used"
        daemon = Daemon(_config(provider, folder, 0))
        [url] = await stack.enter_async_context(daemon.running())
    return daemon, url, remark


async def _sleep_unless(stopped: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await stopped.wait()
    except TimeoutError:
        return
