"""Access control of the HTTP API."""

import asyncio
import re
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from precall.api.endpoints import ENDPOINTS
from precall.api.operation import Operation
from precall.config.schema import SCOPES
from tests.support.api_daemon import Served, a_binding, serving, token

BODIES: dict[str, Any] = {
    "/v1/hints": [],
    "/v1/dials": [],
    "/v1/routes/lookup": {"subs_ids": ["1"]},
    "/v1/bindings/batch": {"bindings": [a_binding()]},
    "/v1/bindings/{subs_id}": a_binding(),
    "/v1/overrides/{subs_id}": {"action": "hold"},
    "/v1/persons/find": {"number": "13800000001"},
    "/v1/persons/erase": {"number": "13800000001", "reason": "asked for"},
    "/v1/calls": {"call_id": "1", "called_at": "2026-01-02T03:04:05Z", "subs_id": "1", "outcome": "busy"},
    "/v1/receipts": [],
    "/v1/receipts/{secret}": [],
}
ABSENT = {
    "GET /v1/calls/{call_id}",
    "DELETE /v1/overrides/{subs_id}",
    "GET /v1/source",
    "POST /v1/source/apply",
}
OPEN = {"/healthz", "/readyz", "/openapi.json", "/runbook"}
SECRET = "/v1/receipts/{secret}"
"""Its path is what admits to it."""


async def status_of(served: Served, endpoint: Operation, secret: str) -> int:
    headers = {"Authorization": f"Bearer {secret}"} if secret else {}
    path = re.sub(r"\{\w+\}", "1", endpoint.path)
    if path.endswith("by-number"):
        path += "?x=17000000001"
    if path.endswith(("changes", "stream")):
        path += "?since=0"
    body = BODIES.get(endpoint.path, {}) if endpoint.body else None
    status, _ = await served.ask(endpoint.method, path, body, headers=headers)
    return status


async def test_every_endpoint_requires_its_scope(tmp_path: Path) -> None:
    right, wrong, entries = {}, {}, []
    for scope in SCOPES:
        right[scope], entry = token(f"only {scope}", scope)
        entries.append(entry)
        wrong[scope], entry = token(f"all but {scope}", *(other for other in SCOPES if other != scope))
        entries.append(entry)
    async with serving(tmp_path, tokens=entries) as served:
        for endpoint in ENDPOINTS:
            what = f"{endpoint.method} {endpoint.path}"
            if endpoint.path == SECRET:
                assert await status_of(served, endpoint, "") == 404, what
                continue
            if endpoint.scope is None:
                assert endpoint.path in OPEN
                assert await status_of(served, endpoint, "") == 200, what
                continue
            # in this order, so that it is there to be read and removed
            headers = {"Authorization": f"Bearer {right['bindings:write']}"}
            await served.ask("PUT", "/v1/bindings/1", a_binding(), headers=headers)
            stored = await served.stored()
            assert await status_of(served, endpoint, "") == 401, what
            assert await status_of(served, endpoint, "secret-of-nobody") == 401, what
            assert await status_of(served, endpoint, wrong[endpoint.scope]) == 403, what
            assert await served.stored() == stored, what
            admitted = await status_of(served, endpoint, right[endpoint.scope])
            assert admitted in {200, 201, 202, 204, 404, 410}, what
            assert (admitted == 410) == endpoint.path.endswith(("changes", "stream")), what
            assert admitted != 404 or what in ABSENT, what


async def test_malformed_authorization_headers_are_refused(tmp_path: Path) -> None:
    _, entry = token("me", *SCOPES)
    async with serving(tmp_path, tokens=[entry]) as served:
        for header in ("Bearer", "Bearer ", "Basic c2VjcmV0LW9mLW1l", "secret-of-me", "Bearer \xff"):
            headers = {"Authorization": header}
            async with served.session.get(f"{served.url}/v1/routes", headers=headers) as response:
                assert response.status == 401
                assert response.headers["WWW-Authenticate"].startswith("Bearer")
                assert (await response.json(content_type=None))["code"] == "unauthorized"


PAGES: list[tuple[dict[str, str], int]] = [
    ({}, 200),
    ({"Host": "localhost:8080"}, 200),
    ({"Host": "[::1]:8080"}, 200),
    ({"Host": "evil.example"}, 403),
    ({"Host": "127.0.0.1.evil.example"}, 403),
    ({"Host": "10.0.0.1"}, 403),
    ({"Host": "["}, 403),
    ({"Origin": "http://localhost:3000"}, 200),
    ({"Origin": "https://evil.example"}, 403),
    ({"Origin": "null"}, 403),
    ({"Sec-Fetch-Site": "cross-site"}, 403),
]


async def test_without_tokens_requests_from_web_pages_are_refused(tmp_path: Path) -> None:
    async with serving(tmp_path) as served:
        await served.register()
        for headers, status in PAGES:
            served.daemon.parts.checker.plan.resume("")
            for method, path in (("GET", "/v1/routes"), ("POST", "/v1/pause"), ("GET", "/healthz")):
                answer, body = await served.ask(method, path, headers=headers)
                assert answer == status, headers
                assert status == 200 or body["code"] == "foreign_request"
            assert bool(served.daemon.parts.checker.plan.paused) == (status == 200)


async def test_behind_other_protection_any_host_is_accepted_but_no_foreign_origin(tmp_path: Path) -> None:
    async with serving(tmp_path, api={"insecure": True}) as served:
        host = {"Host": "precall.example"}
        assert (await served.ask("GET", "/v1/routes", headers=host))[0] == 200
        same = host | {"Origin": "https://precall.example"}
        assert (await served.ask("GET", "/v1/routes", headers=same))[0] == 200
        other = host | {"Origin": "https://evil.example"}
        assert (await served.ask("GET", "/v1/routes", headers=other))[0] == 403


async def test_with_tokens_any_host_header_is_accepted(tmp_path: Path) -> None:
    secret, entry = token("me", "routes:read")
    async with serving(tmp_path, tokens=[entry]) as served:
        headers = {"Host": "precall.example", "Authorization": f"Bearer {secret}"}
        assert (await served.ask("GET", "/v1/routes", headers=headers))[0] == 200


async def test_a_token_in_a_broken_header_is_not_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(tmp_path) as served:
        url = urlsplit(served.url)
        reader, writer = await asyncio.open_connection(url.hostname, url.port)
        writer.write(
            b"GET /v1/routes HTTP/1.1\r\nHost: localhost\r\nAuthorization\x01: Bearer hush-hush\r\n\r\n"
        )
        answer = await reader.read()
        writer.close()
        await writer.wait_closed()
        assert b" 400 " in answer.split(b"\r\n")[0]
    assert "hush" not in caplog.text


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"GET /readyz HTTP/1.0\r\n\r\n", 200),
        (b"HEAD /readyz HTTP/1.0\r\n\r\n", 200),
        (b"GET /readyz HTTP/1.0\r\nHost: evil.example\r\n\r\n", 403),
        (b"GET /readyz HTTP/1.0\r\nHost: \r\n\r\n", 403),
        (b"GET /readyz HTTP/1.0\r\nOrigin: http://evil.example\r\n\r\n", 403),
        (b"GET /readyz HTTP/1.0\r\nSec-Fetch-Site: cross-site\r\n\r\n", 403),
        (b"GET /readyz HTTP/1.1\r\n\r\n", 400),
    ],
)
async def test_a_probe_of_http_1_0_needs_no_host(tmp_path: Path, head: bytes, status: int) -> None:
    async with serving(tmp_path) as served:
        reader, writer = await asyncio.open_connection(*served.url.removeprefix("http://").split(":"))
        writer.write(head)
        line = await reader.readline()
        writer.close()
        assert int(line.split()[1]) == status
