"""Whatever is asked without the scope `routes:real`, no real number is in the answer."""

import asyncio
import http.client
import json
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.api_daemon import A, B, X, a_binding, scripted, serving, token

from precall.api.endpoints import ENDPOINTS, Endpoint
from precall.config import SCOPES

OTHERS = [scope for scope in SCOPES if scope != "routes:real"]
ENDLESS = "/v1/routes/stream"
ASKED = [endpoint for endpoint in ENDPOINTS if endpoint.path != ENDLESS and endpoint.method != "DELETE"]

parties = st.sampled_from([A, B, f"+86{A}", f"0086{B}", f"0{A}", X, "13700000009", "", "x"])
ids = st.sampled_from(["1", "2", "3", "4", "5", A, B, "%2e%2e"])
queries = st.dictionaries(
    st.sampled_from(
        ["caller", "x", "max_age", "format", "dial", "since", "wait", "limit", "cursor", "pool_key", A]
    ),
    parties | st.sampled_from(["0", "1", "text", "json", "FC1"]),
    max_size=4,
)
values = parties | ids | st.sampled_from(["dial_x", "dial_temp_x", "hold", "2099-01-01T00:00:00Z", 5, None])
records = st.dictionaries(
    st.sampled_from(
        ["subs_id", "number_x", "number_a", "number_b", "pool_key", "action", "number", "reason", A]
    ),
    values,
    max_size=5,
)
bodies: st.SearchStrategy[Any] = st.one_of(
    records,
    st.builds(lambda more: a_binding() | more, records),
    st.builds(lambda ids, caller: {"subs_ids": ids, "caller": caller}, st.lists(ids, max_size=5), parties),
    st.builds(lambda items: {"bindings": items}, st.lists(records, max_size=3)),
    st.lists(records, max_size=3),
    values,
)


class Asker:
    """Asks one daemon, one request after the other."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=60)

    def close(self) -> None:
        self._connection.close()

    def ask(
        self, endpoint: Endpoint, subs_id: str, query: Any, body: Any, headers: dict[str, str]
    ) -> tuple[int, str]:
        """(status, the head and the body of the answer)."""
        path = f"{endpoint.path.replace('{subs_id}', subs_id)}?{urlencode(query)}"
        sent = None if endpoint.body is None else json.dumps(body)
        self._connection.request(endpoint.method, path, sent, {"Content-Type": "application/json"} | headers)
        response = self._connection.getresponse()
        return response.status, f"{response.headers}{response.read().decode()}"


async def test_no_scope_no_number(tmp_path: Path) -> None:
    secrets, entries = {}, []
    for name, scopes in ({scope: [scope] for scope in OTHERS} | {"most": OTHERS, "all": SCOPES}).items():
        secrets[name], entry = token(name, *scopes)
        entries.append(entry)
    answered = 0

    def property_of(asker: Asker) -> None:
        @settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
        @given(
            st.sampled_from(ASKED),
            st.sampled_from([*OTHERS, "most", "most", "most", ""]),
            ids,
            queries,
            bodies,
            parties,
        )
        def holds(endpoint: Endpoint, name: str, subs_id: str, query: Any, body: Any, caller: str) -> None:
            nonlocal answered
            headers = {"Authorization": f"Bearer {secrets[name]}"} if name else {}
            query.pop("wait", None)
            if endpoint.path.endswith("/changes"):
                query["wait"] = "0"
            status, told = asker.ask(endpoint, subs_id, query, body, headers | {"X-Precall-Caller": caller})
            answered += status == 200
            assert status < 500, (endpoint.path, told)
            assert A not in told, (endpoint.path, told)
            assert B not in told, (endpoint.path, told)

        # That there is something to hide: the same, with the scope.
        route = next(endpoint for endpoint in ENDPOINTS if endpoint.path == "/v1/routes/{subs_id}")
        headers = {"Authorization": f"Bearer {secrets['all']}"}
        assert B in asker.ask(route, "3", {"caller": A}, None, headers)[1]
        holds()

    async with serving(tmp_path, scripted(1, 2, 3, 4), tokens=entries) as served:
        headers = {"Authorization": f"Bearer {secrets['most']}"}
        for subs_id in ("1", "2", "3", "4"):
            body = a_binding(subs_id=subs_id)
            assert (await served.ask("PUT", f"/v1/bindings/{subs_id}", body, headers=headers))[0] == 201
            assert (await served.ask("POST", f"/v1/bindings/{subs_id}/check", headers=headers))[0] == 200
        with closing(Asker(served.url)) as asker:
            await asyncio.to_thread(property_of, asker)
    assert answered > 40
