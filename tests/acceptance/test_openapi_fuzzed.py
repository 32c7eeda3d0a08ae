"""Fuzzing of the HTTP API by its OpenAPI document, with all checks and phases of schemathesis.

There is no 5xx, and no undocumented status or body. `PRECALL_TEST_FUZZ_SECONDS` sets the duration. Without it, a small
fixed set of examples runs.
"""

import asyncio
import os
import sys
from pathlib import Path

import pytest
from tests.support.api_daemon import scripted, serving, token

from precall.config.schema import SCOPES

SECONDS = int(os.environ.get("PRECALL_TEST_FUZZ_SECONDS", "0"))
CASES = 12
"""Of each endpoint and in each phase."""

RULES = Path(__file__).parents[1] / "data" / "schemathesis.toml"
ENDLESS = "/v1/routes/stream"


@pytest.mark.slow(seconds=85)
@pytest.mark.timeout(SECONDS + 600)
async def test_the_api_survives_fuzzing_by_its_openapi_document(tmp_path: Path) -> None:
    secret, entry = token("all", *SCOPES)
    bounds = ["--max-time", str(SECONDS)] if SECONDS else ["--generation-deterministic"]
    options = [
        *("--checks", "all", "--exclude-path", ENDLESS, "--max-examples", str(CASES), *bounds),
        *("--header", f"Authorization: Bearer {secret}", "--request-timeout", "60"),
        *("--suppress-health-check", "all", "--no-color"),
    ]
    quiet = {"level": "warning"}
    async with serving(tmp_path, scripted(1, 2, 3, 4), tokens=[entry], log=quiet) as served:
        for subs_id in ("1", "2", "3", "4"):
            headers = {"Authorization": f"Bearer {secret}"}
            body = {"pool_key": "FC1", "number_x": "17000000001", "number_a": "13800000001"}
            assert (await served.ask("PUT", f"/v1/bindings/{subs_id}", body, headers=headers))[0] == 201
        command = [sys.executable, "-m", "schemathesis.cli", "--config-file", str(RULES), "run"]
        schemathesis = await asyncio.create_subprocess_exec(
            *command,
            f"{served.url}/openapi.json",
            *options,
            cwd=tmp_path,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        output, _ = await schemathesis.communicate()
    report = output.decode(errors="replace")
    assert schemathesis.returncode == 0, report
    assert "Stateful" in report
