"""What `precall doctor` finds on this machine, and how it shows its findings."""

import datetime as dt
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from precall.cli.doctor import StepFinding, StepVerdict
from precall.cli.doctor_local import (
    database_clock_finding,
    disk_finding,
    examine_daemons,
    examine_port,
    examine_source,
    freshness_finding,
    keys_finding,
    stored_bindings,
    tls_finding,
    tokens_finding,
)
from precall.cli.provider import summary
from precall.config.schema import ApiConfig, Config, FreshnessConfig, SourceConfig, StoreConfig
from precall.core.role import Member, Role
from precall.store import MemberBook, cipher, upgrade
from tests.integration.api.test_tls import Authority
from tests.support.api_daemon import scripted, serving
from tests.support.patience import PATIENCE

OK, WARN, FAIL = StepVerdict.OK, StepVerdict.WARN, StepVerdict.FAIL
NOW = dt.datetime(2026, 1, 2, tzinfo=dt.UTC).timestamp()


async def test_a_free_port_and_one_that_another_program_holds() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{taken.getsockname()[1]}"
    assert (await examine_port(address, tls=False)).finding.found == f"{address} is free"
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        held = await examine_port(f"127.0.0.1:{taken.getsockname()[1]}", tls=False)
    assert (held.finding.verdict, held.ready) == (FAIL, None)
    assert "another program" in held.finding.found


async def test_an_address_of_another_machine_cannot_be_listened_on() -> None:
    finding = (await examine_port("192.0.2.1:8080", tls=False)).finding
    assert (finding.verdict, finding.fix) == (FAIL, "correct api.listen")


async def test_a_port_that_precall_holds_with_tls(tmp_path: Path) -> None:
    cert, key = Authority("authority").issue(tmp_path, "one")
    api = {"tls_cert_file": str(cert), "tls_key_file": str(key)}
    async with serving(tmp_path, api=api) as served:
        address = served.url.removeprefix("https://")
        held = await examine_port(address, tls=True)
        assert held.finding.verdict is OK
        assert held.finding.found.endswith("which runs with 0 bindings")
        assert held.ready is not None
        plainly = await examine_port(address, tls=False)  # the file says otherwise than the daemon that runs
        assert (plainly.finding.verdict, plainly.ready) == (FAIL, None)


async def test_without_a_daemon_the_bindings_of_the_database_are_compared_with_the_promise(
    tmp_path: Path,
) -> None:
    async with serving(tmp_path, scripted(1, 4, 1)) as served:
        for subs_id in ("1", "2", "3"):
            await served.register(subs_id=subs_id)
        await served.checked("2")  # has ended
        config = served.daemon.config.store
    wall = dt.datetime.now(dt.UTC).timestamp()
    assert await stored_bindings(config, wall) == 2
    assert await stored_bindings(config, 5e9) == 0
    missing = StoreConfig(url=f"sqlite:///{tmp_path}/nothing.db")
    assert await stored_bindings(missing, wall) is None
    assert not (tmp_path / "nothing.db").exists()
    none = freshness_finding(Config(), 0)
    assert none.verdict is OK
    assert none.found.startswith("no bindings yet; ")
    assert freshness_finding(Config(), 1).found.startswith("1 binding at ")


@pytest.mark.parametrize(
    ("promise", "bindings", "verdict"),
    [("all", 100, OK), ("all", 1_000_000, WARN), ("auto", 1_000_000, OK), ("dial", 1_000_000, OK)],
)
def test_the_rate_is_compared_with_the_promise(promise: str, bindings: int, verdict: StepVerdict) -> None:
    finding = freshness_finding(
        Config(freshness=FreshnessConfig.model_validate({"promise": promise})), bindings
    )
    assert finding.verdict is verdict
    assert ("precall plan" in finding.fix) is (verdict is WARN)


def test_tls_is_good_ends_soon_or_has_ended(tmp_path: Path) -> None:
    cert, key = Authority("authority").issue(tmp_path, "one", left=30)
    config = ApiConfig(tls_cert_file=str(cert), tls_key_file=str(key))
    ends = dt.datetime.now(dt.UTC).timestamp() + 30 * 86_400
    for before, verdict in ((20, OK), (10, WARN), (-1, FAIL)):
        assert tls_finding(config, ends - before * 86_400).verdict is verdict


def test_tokens_are_named_and_missed_where_others_can_ask() -> None:
    assert tokens_finding(ApiConfig()).verdict is OK
    wide = tokens_finding(ApiConfig(listen=["0.0.0.0:8080"], insecure=True))
    assert wide.verdict is WARN
    assert "0.0.0.0:8080" in wide.found


def test_the_key_file_is_there_or_not(tmp_path: Path) -> None:
    file = tmp_path / "number-keys"
    assert "in plain" in keys_finding(None).found
    assert keys_finding(file).verdict is FAIL
    cipher.add(file, bytes(cipher.LENGTH))
    assert keys_finding(file).found == f"{file}: 1 key"


def test_room_is_looked_at_beside_sqlite_only(tmp_path: Path) -> None:
    found = disk_finding(f"sqlite:///{tmp_path}/precall.db")
    assert found is not None
    assert str(tmp_path) in found.found
    assert disk_finding("postgresql://host/name") is None


@pytest.mark.parametrize(
    ("rows", "verdict", "found"),
    [
        ("SELECT '1' subs_id, 'FC1' pool_key, '17000000001' number_x, '13800000001' number_a", OK, "gives"),
        (
            "SELECT '1' subs_id, 'FC1' pool_key, '17000000001' number_x, '13800000001' number_a WHERE 0",
            WARN,
            "no rows",
        ),
        ("SELECT '1' subs_id, 'FC1' pool_key, '' number_x, '13800000001' number_a", FAIL, "number_x"),
        ("SELECT 1 FROM nowhere", FAIL, "nowhere"),
    ],
)
async def test_the_query_of_the_source_is_tried(
    tmp_path: Path, rows: str, verdict: StepVerdict, found: str
) -> None:
    (tmp_path / "source.db").touch()
    config = SourceConfig.model_validate({"url": f"sqlite:///{tmp_path}/source.db", "query": rows})
    finding = await examine_source(config, NOW)
    assert finding.verdict is verdict
    assert found in finding.found
    assert "17000000001" not in finding.found


async def test_daemons_on_the_database_are_named(new_store_url: Callable[..., str]) -> None:
    url = new_store_url()
    await upgrade(url)
    config = StoreConfig(url=url, timeout=f"{PATIENCE}s")  # type: ignore[arg-type]
    clock = dt.datetime.now(dt.UTC).timestamp
    assert (await examine_daemons(config, clock))[0].found == "none is running on this database"
    book = MemberBook(url, PATIENCE)
    book.open()
    await book.sign(Member("id", "host", 7, "http://127.0.0.1:8080", "1.2", Role.LEADING), 0.0)
    [daemon, *others] = await examine_daemons(config, clock)
    await book.close()
    assert daemon.found == "host/7 is leading, precall 1.2, http://127.0.0.1:8080"
    assert [one.what for one in others] == ([] if url.startswith("sqlite") else ["database clock"])


def test_the_clock_of_the_database() -> None:
    assert database_clock_finding(1.0).verdict is OK
    assert database_clock_finding(-60.0).found == "60 s behind the database"
    assert database_clock_finding(60.0).verdict is WARN


def test_the_summary_counts_verdicts() -> None:
    found = [StepFinding("a", verdict, "") for verdict in (OK, OK, WARN, FAIL)]
    assert summary(found) == "2 ok, 1 warning, 1 failed"
    assert summary(found[:2]) == "2 ok, 0 warnings, 0 failed"
