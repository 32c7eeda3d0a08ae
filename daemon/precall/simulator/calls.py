"""Call details for QueryCallDetailByCallId: empty at first, then in progress, then final.

Field names and their order are from the provider's page for the action. Times in a detail are Beijing time without a
zone, as the provider writes them.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Literal

from precall.simulator.scenario import Call

BEIJING = timezone(timedelta(hours=8))
DAY_MS = 86_400_000
CALLS_KEPT = 500_000
RINGING = 10.0  # seconds a call rings, unless the scenario says when it ends
_FULL_WIDTH = str.maketrans('"', "”")


@dataclass(frozen=True, slots=True)
class _PlacedCall:
    spec: Call
    called_at: float
    visible_at: float
    ends_at: float


class CallLog:
    """The newest `CALLS_KEPT` calls. `speed` scenario seconds pass per real second."""

    def __init__(
        self, speed: float, query_date: Literal["day", "next_24h"], *, full_width_quotes: bool
    ) -> None:
        self._speed = speed
        self._query_date = query_date
        self._full_width_quotes = full_width_quotes
        self._calls: dict[str, _PlacedCall] = {}

    def add(self, call: Call, now: float) -> None:
        """Add a call, or replace the one with the same id. Without `called_at` the call is placed at `now`."""
        called_at = now if call.called_at is None else call.called_at
        length = RINGING + call.duration if call.ends is None else call.ends
        while len(self._calls) >= CALLS_KEPT:
            del self._calls[next(iter(self._calls))]
        self._calls[call.call_id] = _PlacedCall(
            call, called_at, called_at + call.after / self._speed, called_at + length / self._speed
        )

    def detail(self, call_id: str, prod_id: int, query_date_ms: int, now: float) -> str:
        """Return the text of `Data`.

        It is "" for an unknown call, another product or day, and a call that is not visible yet.
        """
        placed = self._calls.get(call_id)
        if placed is None or placed.spec.prod_id != prod_id or now < placed.visible_at:
            return ""
        if not self._covers(query_date_ms, placed.called_at):
            return ""
        text = json.dumps(_fields(placed, now), ensure_ascii=False, separators=(",", ":"))
        return text.translate(_FULL_WIDTH) if self._full_width_quotes else text

    def _covers(self, query_date_ms: int, called_at: float) -> bool:
        called_ms = int(called_at * 1000)
        if self._query_date == "next_24h":
            return query_date_ms <= called_ms < query_date_ms + DAY_MS
        return _day(query_date_ms) == _day(called_ms)


def _day(unix_ms: int) -> int:
    return (unix_ms + 8 * 3_600_000) // DAY_MS


def _fields(placed: _PlacedCall, now: float) -> dict[str, object]:
    call = placed.spec
    state, over = call.state, now >= placed.ends_at
    if not over and call.intermediate:
        progress = max(0.0, now - placed.called_at) / (placed.ends_at - placed.called_at)
        state = call.intermediate[int(progress * len(call.intermediate))]
    connected = call.duration > 0
    fields: dict[str, object] = {
        "caller": call.caller,
        "startDate": beijing(placed.ends_at - call.duration) if over and connected else "",
        "stateDesc": call.state_desc if over and call.state_desc is not None else state,
        "duration": call.duration if over else 0,
        "callerShowNumber": call.callee,
        "gmtCreate": beijing(placed.called_at),
        "state": state,
        "endDate": beijing(placed.ends_at) if over and connected else "",
        "calleeShowNumber": call.callee,
        "callee": call.callee,
    }
    return {name: value for name, value in fields.items() if name not in call.omit}


def beijing(unix: float) -> str:
    """Format Unix seconds as the provider does: Beijing time without a zone."""
    return datetime.fromtimestamp(unix, BEIJING).strftime("%Y-%m-%d %H:%M:%S")
