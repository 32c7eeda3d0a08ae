"""Pushed receipts: one SecretReport per handset call, in batches, in any order and sometimes twice.

Fields are from the provider's page for SecretReport. A push is a JSON array that must be answered within 700 ms with
`{"code": 0, ...}`, or it is sent again. Times are Beijing time without a zone. The duration is release_time -
start_time, 0 if the call was not connected.
"""

from __future__ import annotations

import asyncio
import heapq
import random
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import aiohttp

from precall.simulator.calls import beijing
from precall.simulator.scenario import Receipts

PATIENCE = 0.7
"""Seconds within which a push must be answered."""
MAX_BATCH = 500
RETRY_AFTER = 2.0
MAX_TRIES = 5
DUPLICATE_WITHIN = 3.0
"""Real seconds within which a duplicate is sent."""


@dataclass(frozen=True, slots=True)
class Report:
    """A receipt. Times are Unix seconds; `sub_id` is a Long on the wire."""

    call_id: str
    sub_id: str
    pool_key: str
    phone_no: str
    secret_no: str
    peer_no: str
    by_a: bool
    called_at: float
    ringing: float
    duration: int
    release_cause: int

    def fields(self) -> dict[str, object]:
        """The JSON object that is pushed."""
        answered = self.called_at + self.ringing
        ended = beijing(answered + self.duration)
        return {
            "pool_key": self.pool_key,
            "sub_id": int(self.sub_id) if self.sub_id.isdecimal() else self.sub_id,
            "call_id": self.call_id,
            "phone_no": self.phone_no,
            "secret_no": self.secret_no,
            "peer_no": self.peer_no,
            "called_display_no": self.secret_no,
            "call_type": 0 if self.by_a else 1,
            "call_time": beijing(self.called_at),
            "call_out_time": beijing(self.called_at),
            "ring_time": beijing(self.called_at),
            "start_time": beijing(answered),
            "release_time": ended,
            "release_dir": 1 if self.duration else 0,
            "release_cause": self.release_cause,
            "unconnected_cause": 0,
            "out_id": "",
        }


class ReceiptQueue:
    """Receipts that wait for the end of their call."""

    def __init__(self, seed: int, duplicates: float) -> None:
        self._draw = random.Random(seed)
        self._duplicates = duplicates
        self._due: list[tuple[float, int, int, Report]] = []
        self._added = 0

    def __len__(self) -> int:
        return len(self._due)

    def add(self, report: Report, due: float) -> None:
        """Queue `report` for the time `due` (Unix seconds), and sometimes a duplicate shortly after."""
        self._put(report, due, 1)
        if self._draw.random() < self._duplicates:
            self._put(report, due + DUPLICATE_WITHIN * self._draw.random(), 1)

    def take(self, now: float) -> list[tuple[Report, int]]:
        """Remove and return at most one batch of due reports, shuffled, each with the number of its try."""
        batch: list[tuple[Report, int]] = []
        while self._due and self._due[0][0] <= now and len(batch) < MAX_BATCH:
            _, _, tries, report = heapq.heappop(self._due)
            batch.append((report, tries))
        self._draw.shuffle(batch)
        return batch

    def put_back(self, report: Report, tries: int, now: float) -> bool:
        """Queue `report` again; return False if it has had all its tries."""
        if tries < MAX_TRIES:
            self._put(report, now + RETRY_AFTER, tries + 1)
        return tries < MAX_TRIES

    def _put(self, report: Report, due: float, tries: int) -> None:
        self._added += 1
        heapq.heappush(self._due, (due, self._added, tries, report))


class Pusher:
    """Push due receipts to one URL."""

    def __init__(self, queue: ReceiptQueue, url: str, settings: Receipts, clock: Callable[[], float]) -> None:
        self.results: Counter[str] = Counter()
        self._queue, self._url, self._settings, self._clock = queue, url, settings, clock

    async def run(self) -> None:
        """Push until cancelled."""
        timeout = aiohttp.ClientTimeout(total=PATIENCE)
        async with aiohttp.ClientSession(timeout=timeout) as session:
            while True:
                while batch := self._queue.take(self._clock()):
                    await self._push(session, batch)
                await asyncio.sleep(self._settings.every)

    async def _push(self, session: aiohttp.ClientSession, batch: list[tuple[Report, int]]) -> None:
        if await self._acknowledged(session, [report.fields() for report, _ in batch]):
            self.results["acknowledged"] += len(batch)
            return
        for report, tries in batch:
            retried = self._queue.put_back(report, tries, self._clock())
            self.results["pushed_again" if retried else "given_up"] += 1

    async def _acknowledged(self, session: aiohttp.ClientSession, body: list[dict[str, object]]) -> bool:
        try:
            async with session.post(self._url, json=body) as response:
                answer: Any = await response.json(content_type=None)
        except (aiohttp.ClientError, TimeoutError, ValueError):
            return False
        return response.status == 200 and isinstance(answer, Mapping) and answer.get("code") == 0
