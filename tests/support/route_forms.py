"""Every form in which the HTTP API gives a route."""

from collections.abc import Collection
from typing import Any

import orjson

from tests.support.api_daemon import Served

Routes = list[dict[str, Any]]


async def route_forms(served: Served, subs_ids: Collection[str], caller: str) -> dict[str, Routes]:
    """The routes of these bindings, by form: reads, lookup, list, snapshot, changes, stream and explanations."""
    forms: dict[str, Routes] = {}
    forms["read"] = [
        (await served.ask("GET", f"/v1/routes/{subs_id}?caller={caller}"))[1] for subs_id in subs_ids
    ]
    _, found = await served.ask("POST", "/v1/routes/lookup", {"subs_ids": list(subs_ids), "caller": caller})
    forms["lookup"] = found["routes"]
    forms["list"] = (await served.ask("GET", "/v1/routes"))[1]["routes"]
    async with served.session.get(f"{served.url}/v1/routes/snapshot") as response:
        forms["snapshot"] = [orjson.loads(line) async for line in response.content]
    base = min(served.daemon.parts.feed.bases)
    changes = (await served.ask("GET", f"/v1/routes/changes?since={base}&wait=0"))[1]["changes"]
    forms["changes"] = list({one["subs_id"]: one for one in changes}.values())
    forms["stream"] = await _streamed(served, base, len(changes))
    forms["explain"] = [
        (await served.ask("GET", f"/v1/bindings/{subs_id}/explain"))[1]["route"] for subs_id in subs_ids
    ]
    return forms


async def _streamed(served: Served, since: int, events: int) -> Routes:
    """The last route of each binding among the first `events` of the stream."""
    told: dict[str, dict[str, Any]] = {}
    async with served.session.get(f"{served.url}/v1/routes/stream?since={since}") as response:
        while events:
            line = await response.content.readline()
            if line.startswith(b"data: "):
                route = orjson.loads(line.removeprefix(b"data: "))
                told[route["subs_id"]] = route
                events -= 1
    return list(told.values())
