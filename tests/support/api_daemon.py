"""A complete daemon for tests of the HTTP API, on SQLite and with the simulator as its provider."""

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from precall.config.schema import Config
from precall.runtime.daemon import Daemon
from precall.simulator import Scenario, Simulator
from tests.support.patience import PATIENCE

X, A, B = "17000000001", "13800000001", "13900000001"
FUTURE = "2099-01-01T00:00:00Z"


@dataclass(frozen=True, slots=True)
class Served:
    """A running daemon with its simulated provider and an HTTP session."""

    daemon: Daemon
    simulator: Simulator
    session: aiohttp.ClientSession
    url: str

    async def ask(self, method: str, path: str, body: Any = None, **more: Any) -> tuple[int, Any]:
        """Send a request and return (status, JSON body or text)."""
        if body is not None:
            more["json"] = body
        async with self.session.request(method, f"{self.url}{path}", **more) as response:
            if "json" in response.content_type:
                return response.status, await response.json(content_type=None)
            return response.status, await response.text()

    async def register(self, **facts: Any) -> dict[str, Any]:
        """Register one binding; `facts` override those of `a_binding`."""
        status, body = await self.ask("PUT", f"/v1/bindings/{facts.get('subs_id', '1')}", a_binding(**facts))
        assert status in (200, 201), body
        return body  # type: ignore[no-any-return]

    async def checked(self, subs_id: str) -> dict[str, Any]:
        """Check a binding and return its route."""
        status, body = await self.ask("POST", f"/v1/bindings/{subs_id}/check")
        assert (status, body["outcome"]) == (200, "answered"), body
        return body["route"]  # type: ignore[no-any-return]

    async def shows(self, *codes: str) -> list[str]:
        """Wait until `/readyz` has exactly these findings. Return what it says about them."""
        async with asyncio.timeout(PATIENCE):
            while True:
                _, ready = await self.ask("GET", "/readyz")
                if sorted(ready["findings"]) == sorted(codes):
                    return ready["degraded"]  # type: ignore[no-any-return]
                await asyncio.sleep(0.05)

    async def stored(self) -> int:
        """Return the number of bindings in the database."""
        return sum([len(rows) async for rows in self.daemon.parts.store.load()])


def a_binding(**facts: Any) -> dict[str, Any]:
    """Return a valid request body for a binding."""
    return {
        "subs_id": "1",
        "pool_key": "FC1",
        "number_x": X,
        "number_a": A,
        "number_b": B,
        "expires_at": FUTURE,
    } | facts


def scripted(*statuses: int, **more: Any) -> dict[str, Any]:
    """Return a scenario with the bindings "1", "2", ... that have these statuses."""
    return {
        "binding": [
            {
                "subs_id": str(number),
                "pool_key": "FC1",
                "number_x": X,
                "number_a": A,
                "number_b": B,
                "status": status,
            }
            for number, status in enumerate(statuses, 1)
        ],
        **more,
    }


def token(name: str, *scopes: str) -> tuple[str, dict[str, Any]]:
    """Return (secret, configuration entry) of a token."""
    secret = f"secret-of-{name}"
    return secret, {
        "name": name,
        "scopes": list(scopes),
        "sha256": hashlib.sha256(secret.encode()).hexdigest(),
    }


@asynccontextmanager
async def serving(
    folder: Path,
    scenario: Mapping[str, Any] | None = None,
    *,
    tokens: Sequence[dict[str, Any]] = (),
    rate: float = 1000.0,
    store_timeout: float = PATIENCE,
    speed: float = 1.0,
    wall: Callable[[], float] = time.time,
    monotonic: Callable[[], float] = time.monotonic,
    boottime: Callable[[], float] = time.monotonic,
    **sections: Any,
) -> AsyncIterator[Served]:
    """Run a daemon on an ephemeral port, with the database in `folder`, which is created if missing.

    `speed` is the simulator's; both use the clocks. `sections` are further sections of the configuration.
    """
    simulator = Simulator(Scenario.model_validate(scenario or {}), wall, speed)
    async with simulator.running() as provider:
        config = Config(
            provider={  # type: ignore[arg-type]
                "endpoint": provider,
                "call_detail_endpoint": provider,
                "access_key_id": "demo",
                "access_key_secret": "demo-secret",
                "rate": rate,
            }
            | sections.pop("provider", {}),
            store={"url": f"sqlite:///{folder}/precall.db", "timeout": f"{store_timeout}s"}  # type: ignore[arg-type]
            | sections.pop("store", {}),
            api={"listen": "127.0.0.1:0", "tokens": tokens} | sections.pop("api", {}),  # type: ignore[arg-type]
            receipts={"queue_endpoint": provider, "token_endpoint": provider} | sections.pop("receipts", {}),  # type: ignore[arg-type]
            **sections,
        )
        daemon = Daemon(config, wall=wall, monotonic=monotonic, boottime=boottime)
        async with daemon.running() as urls, aiohttp.ClientSession() as session:
            yield Served(daemon, simulator, session, urls[0])
