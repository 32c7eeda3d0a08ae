"""A scripted dispatcher: it asks precall for a route before each call, over the public HTTP API, and dials it.

Each call is paired with a trial call to the bound X, under the same conditions but without asking precall. The
difference between the two outcomes is what precall is worth. A dispatcher knows when its bindings expire: it still
asks about expired ones, but dials neither call.
"""

from __future__ import annotations

import asyncio
import heapq
import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from typing import Any, Self

import aiohttp

from precall.simulator.exchange import VOICE_SERVICE, Ending, Exchange, PlacedCall
from precall.simulator.population import SimBinding

STRANGER = "13700000000"
PATIENCE = 5.0
MOST_REPORTS = 1000
_NOT_THERE = (404, 405)
_IN_WORDS = {
    Ending.CONNECTED: "connected",
    Ending.BUSY: "busy",
    Ending.NO_ANSWER: "no_answer",
    Ending.POWERED_OFF: "no_answer",
    Ending.FAILED: "failed",
}
"""The outcomes in the words of precall's API."""


@dataclass(slots=True)
class CallTally:
    """Outcomes of one dispatcher's calls.

    `told` counts the actions in precall's answers. `routed` counts the endings of calls along precall's route, and
    `alone` those of the trial calls to the bound X. `not_placed` counts calls that precall held back although the
    binding had not expired. `observed` counts the endings of calls in pools that are only observed, which are not in
    the others: no route of precall decided about them.
    """

    asked: int = 0
    unanswered: int = 0
    not_placed: int = 0
    reported: int = 0
    told: Counter[str] = field(default_factory=Counter)
    routed: Counter[str] = field(default_factory=Counter)
    alone: Counter[str] = field(default_factory=Counter)
    observed: Counter[str] = field(default_factory=Counter)

    def shown(self) -> dict[str, object]:
        """The counters as plain data."""
        return {each.name: getattr(self, each.name) for each in fields(self)}


class Dispatcher:
    """Place calls between the parties of `bindings`, asking the precall at `url` first. An async context manager."""

    def __init__(
        self,
        exchange: Exchange,
        bindings: Sequence[SimBinding],
        url: str,
        token: str,
        *,
        tally: CallTally,
        outcomes: float,
        seed: int,
        clock: Callable[[], float],
    ) -> None:
        self.tally = tally
        self._exchange, self._bindings, self._url, self._clock = exchange, bindings, url.rstrip("/"), clock
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._outcomes = outcomes
        self._draw = random.Random(seed)
        self._reports: list[tuple[float, int, dict[str, object]]] = []
        self._accepts_reports = True

    async def __aenter__(self) -> Self:
        timeout = aiohttp.ClientTimeout(total=PATIENCE)
        self._session = aiohttp.ClientSession(timeout=timeout, headers=self._headers)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()

    async def run(self, rate: float) -> None:
        """Place `rate` calls per second until cancelled."""
        while True:
            await self.place_call()
            await self.report()
            await asyncio.sleep(1.0 / rate)

    async def place_call(self) -> None:
        """Ask for a route and dial it, from one party of a random binding to the other; queue the report."""
        if not self._bindings:
            return
        binding = self._draw.choice(self._bindings)
        caller = self._draw.choice((binding.number_a, binding.number_b or STRANGER))
        route = await self._route(binding.subs_id, caller)
        if route is None:
            return
        self.tally.told[route["action"]] += 1
        now = self._clock()
        if binding.expires_at is not None and now >= binding.expires_at:
            return
        only_observed = "would" in route
        if not route["number"]:
            if only_observed:
                return
            self.tally.not_placed += 1
            trial = self._exchange.try_out(binding, caller, binding.number_x, now)
            self.tally.alone[trial.ending] += 1
            return
        call = self._exchange.place(binding, caller, route["number"], now)
        if only_observed:
            self.tally.observed[call.ending] += 1
        else:
            self.tally.routed[call.ending] += 1
            self.tally.alone[self._exchange.compare(call, binding.number_x).ending] += 1
        if not call.handset:
            self._queue_report(call, now)

    async def report(self) -> None:
        """Send the reports that are due. Stop for good if this precall has no endpoint for reports."""
        due: list[dict[str, object]] = []
        while self._reports and self._reports[0][0] <= self._clock() and len(due) < MOST_REPORTS:
            due.append(heapq.heappop(self._reports)[2])
        if due and self._accepts_reports:
            status, _ = await self._ask("POST", "/v1/calls", json=due)
            self._accepts_reports = status not in _NOT_THERE
            self.tally.reported += len(due) if 200 <= status < 300 else 0

    async def _route(self, subs_id: str, caller: str) -> dict[str, Any] | None:
        """Return precall's answer, or count the missing one and return None."""
        self.tally.asked += 1
        status, body = await self._ask("GET", f"/v1/routes/{subs_id}", params={"caller": caller})
        if status == 200 and isinstance(body, dict):
            return body
        self.tally.unanswered += 1
        return None

    def _queue_report(self, call: PlacedCall, now: float) -> None:
        report: dict[str, object] = {
            "call_id": call.call_id,
            "prod_id": VOICE_SERVICE,
            "called_at": datetime.fromtimestamp(call.called_at, UTC).isoformat(),
            "subs_id": call.binding.subs_id,
        }
        due = now
        if self._draw.random() < self._outcomes:
            report["outcome"] = _IN_WORDS[call.ending]
            due = call.ends_at
        heapq.heappush(self._reports, (due, call.serial, report))

    async def _ask(self, method: str, path: str, **more: Any) -> tuple[int, Any]:
        """Return (status, body), or (0, None) if no valid reply came in time."""
        try:
            async with self._session.request(method, f"{self._url}{path}", **more) as response:
                return response.status, await response.json(content_type=None)
        except (aiohttp.ClientError, TimeoutError, ValueError):
            return 0, None


def failed(endings: Counter[str]) -> tuple[int, int]:
    """Return (failed calls, all calls); only failures that the number may have caused are counted."""
    return endings[Ending.FAILED], endings.total()
