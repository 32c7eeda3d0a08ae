import asyncio
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from precall.provider import Credential, Credentials
from tests.support.patience import until

FIRST, SECOND = Credential("one", "secret"), Credential("two", "secret")
CHAIN = """
import asyncio, logging
from precall.provider import Credentials

async def main():
    credentials = Credentials(None)
    await credentials.start(20)
    print(credentials.current(), credentials.last_error)
    key = credentials.current()
    if key:
        print(key.access_key_id, key.access_key_secret, key.security_token)
    for name in ("alibabacloud-tea", "darabonba-core", "credentials"):
        logging.getLogger(name).error("noise")
    await credentials.stop()

asyncio.run(main())
"""


async def test_a_configured_credential_is_always_available() -> None:
    credentials = Credentials(FIRST)
    assert credentials.current() is FIRST
    await credentials.start()
    credentials.refresh_soon()
    assert not await credentials.newer_than(FIRST, 1.0)
    await credentials.stop()
    assert credentials.current() is FIRST


async def test_the_credential_chain_runs_in_a_thread() -> None:
    release = threading.Event()
    threads = []

    def fetch() -> Credential:
        threads.append(threading.current_thread())
        release.wait(5)
        return FIRST

    credentials = Credentials(None, fetch)
    await credentials.start(patience=0.05)
    assert credentials.current() is None
    release.set()
    await credentials.start()  # already started: no second refresher
    assert await credentials.newer_than(SECOND, 1.0)
    while credentials.current() is None:
        await asyncio.sleep(0.01)
    assert credentials.current() == FIRST
    assert threads[0] is not threading.main_thread()
    await credentials.stop()
    await credentials.stop()


async def test_a_refresh_replaces_only_a_changed_credential() -> None:
    fetched = iter([FIRST, Credential("one", "secret"), SECOND])
    credentials = Credentials(None, lambda: next(fetched))
    await credentials.start()
    before = credentials.current()
    assert not await credentials.newer_than(FIRST, 1.0)
    assert credentials.current() is before
    assert await credentials.newer_than(FIRST, 1.0)
    assert credentials.current() == SECOND
    await credentials.stop()


async def test_a_failed_refresh_keeps_the_old_credential() -> None:
    outcomes = iter([FIRST, RuntimeError("role SecretRole at http://10.0.0.1"), SECOND])

    def fetch() -> Credential:
        outcome = next(outcomes)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    credentials = Credentials(None, fetch)
    await credentials.start()
    assert not await credentials.newer_than(FIRST, 1.0)
    assert credentials.current() == FIRST
    assert "RuntimeError" in credentials.last_error
    assert "SecretRole" not in credentials.last_error
    assert await credentials.newer_than(FIRST, 1.0)
    assert credentials.last_error == ""
    await credentials.stop()


async def test_concurrent_refreshes_share_fetches() -> None:
    calls = []

    def fetch() -> Credential:
        calls.append(1)
        return Credential("key", "secret", f"token-{len(calls)}")

    credentials = Credentials(None, fetch)
    await credentials.start()
    used = credentials.current()
    assert used is not None
    assert all(await asyncio.gather(*(credentials.newer_than(used, 1.0) for _ in range(50))))
    assert len(calls) <= 3
    await credentials.stop()


def run_chain(tmp_path: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ALIBABA_CLOUD")}
    off = {"ALIBABA_CLOUD_ECS_METADATA_DISABLED": "true", "HOME": str(tmp_path)}
    return subprocess.run(
        [sys.executable, "-c", CHAIN],
        env=kept | off | environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.slow
def test_the_default_chain_reads_the_environment_and_is_quiet(tmp_path: Path) -> None:
    ran = run_chain(
        tmp_path,
        ALIBABA_CLOUD_ACCESS_KEY_ID="LTAIexample",
        ALIBABA_CLOUD_ACCESS_KEY_SECRET="the-secret",
        ALIBABA_CLOUD_SECURITY_TOKEN="the-token",
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.splitlines() == ["Credential(temporary) ", "LTAIexample the-secret the-token"]
    assert "noise" not in ran.stderr


@pytest.mark.slow
def test_an_empty_chain_is_reported(tmp_path: Path) -> None:
    ran = run_chain(tmp_path)
    assert ran.returncode == 0, ran.stderr
    assert "None the default credential chain failed (" in ran.stdout
    assert "noise" not in ran.stderr


async def test_missing_credentials_are_told_once_and_so_is_their_end() -> None:
    calls = []

    def fetch() -> Credential:
        calls.append(1)
        if len(calls) < 3:
            raise RuntimeError("/home/someone/.aliyun/config.json")
        return FIRST

    credentials = Credentials(None, fetch)
    with capture_logs() as lines:
        await credentials.start()
        for _ in range(3):
            made = len(calls)
            credentials.refresh_soon()
            await until(lambda made=made: len(calls) > made)
        await until(credentials.current)
        await credentials.stop()
    assert [line["event"] for line in lines] == ["credentials.missing", "credentials.found"]
    assert "`precall init`" in lines[0]["hint"]
    assert "`precall demo`" in lines[0]["hint"]
    assert "config.json" not in str(lines)
