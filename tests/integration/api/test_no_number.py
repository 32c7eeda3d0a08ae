"""Real numbers reach only clients with the scope, whatever the request and state, and no log or metric contains one."""

import json
import logging
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from precall.api.endpoints import ENDPOINTS
from precall.api.operation import Operation
from precall.config.schema import SCOPES
from tests.integration.engine.test_main_job import truth
from tests.support.api_daemon import Served, a_binding, scripted, serving, token
from tests.support.examples import examples
from tests.support.sealed import dumped, key_file

X, A, B, TEMP, STRANGER = "17012345678", "13812345678", "13987654321", "17187654321", "13711112222"
REAL, ALL = (A, B), (X, A, B, TEMP)
IDS = ("1", "2", "3", "4")
WAITING = {"/v1/routes/changes", "/v1/routes/stream"}

BODIES: dict[str, list[Any]] = {
    "/v1/routes/lookup": [{"subs_ids": [*IDS, "9"], "caller": caller} for caller in ("", A, B, STRANGER)],
    "/v1/hints": [[{"subs_id": "1", "dial_at": "2099-01-01T00:00:00Z"}], [{"subs_id": A, "dial_at": B}]],
    "/v1/dials": [[{"subs_id": "1", "last_at": "2026-01-01T00:00:00Z"}], [{"subs_id": A, "last_at": B}]],
    "/v1/bindings/batch": [
        {"bindings": [a_binding(number_x=X, number_a=A, number_b=B)]},
        {"bindings": [a_binding(number_x=X, number_a=A, number_b="***21")]},
        {"bindings": [{A: B}]},
    ],
    "/v1/bindings/{subs_id}": [
        a_binding(number_x=X, number_a=A, number_b=B),
        a_binding(number_x=X, number_a=A, number_b=""),
        a_binding(number_x=f"{A}x", number_a=[B]),
        {A: B},
    ],
    "/v1/persons/find": [{"number": number} for number in ALL],
    "/v1/overrides/{subs_id}": [
        {"action": "hold"},
        {"action": "dial_temp_x"},
        {"action": "dial_x", "number": A},
        {"action": "dial_x", "number": f"{B}!"},
    ],
}
QUERIES = [
    "",
    f"caller={A}",
    f"caller={B}",
    f"caller={STRANGER}",
    "format=text",
    "max_age=0.001",
    "dial=0",
    f"{A}={B}",
]
ASKED: dict[str, list[str]] = {
    "/v1/routes/by-number": [f"x={X}&caller={caller}" for caller in ("", A, B, STRANGER)] + [f"x={A}&y={B}"],
    "/v1/exposures": ["", f"number={A}", f"number={B}x", f"{A}={B}"],
}

turns = st.lists(st.tuples(st.sampled_from(IDS), st.integers(1, 4)), max_size=6)
readers = st.one_of(
    st.sets(st.sampled_from(SCOPES), min_size=1),
    st.sets(st.sampled_from(SCOPES)).map(lambda more: more - {"routes:real"} | {"routes:read"}),
)
WAYS = 5
"""Requests per endpoint and run."""


def may_see(endpoint: Operation, scopes: set[str]) -> bool:
    """Whether real numbers may be in this answer."""
    if endpoint.path == "/v1/bindings/export":
        return "admin" in scopes
    single = {"/v1/routes/{subs_id}", "/v1/routes/by-number", "/v1/routes/lookup", "/v1/bindings/{subs_id}"}
    told = endpoint.path in single and endpoint.method in ("GET", "POST")
    return told and {"routes:read", "routes:real"} <= scopes


@pytest.mark.slow
@given(scopes=readers, turned=turns, seed=st.integers(0, 2**32))
# Each example starts a daemon, so a failing one is reported without shrinking.
@settings(examples(5, 200, *HealthCheck), phases=[Phase.explicit, Phase.reuse, Phase.generate])
async def test_numbers_require_a_scope(
    scopes: set[str], turned: list[tuple[str, int]], seed: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("any")
    logged: list[str] = []

    class Ear(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            logged.append(f"{record.getMessage()} {record.exc_info}")

    ear = Ear(logging.DEBUG)
    logging.getLogger().addHandler(ear)
    try:
        await live(folder, scopes, turned, Random(seed))
    finally:
        logging.getLogger().removeHandler(ear)
    assert logged
    assert [line for line in logged if any(number in line for number in ALL)] == []


async def live(folder: Path, scopes: set[str], turned: list[tuple[str, int]], chance: Random) -> None:
    secret, entry = token("reader", *sorted(scopes))
    everything, other = token("all", *SCOPES)
    scenario = scripted(1, 2, 3, 3)
    for binding in scenario["binding"]:
        binding |= {
            "number_x": X,
            "number_a": A,
            "number_b": B,
            "called_no": TEMP if binding["status"] == 2 else None,
        }
    keys = key_file(folder)
    store = {"url": f"sqlite:///{folder}/precall.db", "number_key_file": str(keys)}
    async with serving(folder, scenario, tokens=[entry, other], store=store, store_timeout=20.0) as served:
        trusted = {"Authorization": f"Bearer {everything}"}
        registered = [a_binding(subs_id=subs_id, number_x=X, number_a=A, number_b=B) for subs_id in IDS]
        await served.ask("POST", "/v1/bindings/batch", {"bindings": registered}, headers=trusted)
        for subs_id in IDS:
            await served.ask("POST", f"/v1/bindings/{subs_id}/check", headers=trusted)
        for subs_id, status in turned:
            truth(served, subs_id, status=status, called_no=TEMP if status == 2 else None)
            await served.ask("POST", f"/v1/bindings/{subs_id}/check", headers=trusted)
        for endpoint in chance.sample(ENDPOINTS, len(ENDPOINTS)):
            for _ in range(WAYS):
                answer = await asked(served, endpoint, chance, {"Authorization": f"Bearer {secret}"})
                if not may_see(endpoint, scopes):
                    assert [number for number in REAL if number in answer] == [], (endpoint.path, scopes)
        rendered = served.daemon.metrics.render().decode()
        for subs_id in IDS:
            for path in ("history", "explain"):
                _, body = await served.ask("GET", f"/v1/bindings/{subs_id}/{path}", headers=trusted)
                rendered += json.dumps(body)
        changes, _ = await served.daemon.parts.store.changes(
            0, served.daemon.parts.feed.newest, limit=1000
        ) or ([], 0)
        rendered += str(changes)
        # every real number that was returned is in the audit
        assert [number for number in REAL if number in rendered] == []
    assert [number for number in ALL if number in dumped(store["url"])] == []


async def asked(served: Served, endpoint: Operation, chance: Random, headers: dict[str, str]) -> str:
    """Send one random request to an endpoint. Return the whole response with its headers."""
    path = endpoint.path.replace("{subs_id}", chance.choice((*IDS, "9", A)))
    query = chance.choice(ASKED.get(endpoint.path, QUERIES)) if chance.random() < 0.5 else ""
    if endpoint.path in WAITING and "since" not in query:
        query = "since=0&wait=0" if endpoint.path.endswith("changes") else "since=0"
    body = None
    if endpoint.body is not None:
        body = chance.choice(BODIES.get(endpoint.path, [{}, {"pool_key": "FC1"}, {"reason": 5}, {A: B}]))
    if chance.random() < 0.3:
        headers = {**headers, "X-Precall-Caller": chance.choice((A, B, STRANGER, "x"))}
    async with served.session.request(
        endpoint.method, f"{served.url}{path}?{query}", json=body, headers=headers
    ) as response:
        assert response.status < 500, (endpoint.path, query)
        told = str(response.headers)
        if endpoint.path.endswith("stream") and response.status == 200:
            return told + (await response.content.read(4096)).decode()
        return told + await response.text()
