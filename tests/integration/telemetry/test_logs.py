"""What is written: by every logger in one form, and never a flood."""

import asyncio
import io
import json
import logging
import random
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from precall.core.limits.quota import Quota
from precall.core.model import Answer, Failure, NonAnswer, Reply, Status
from precall.engine.provider_health import ProviderHealth
from precall.telemetry import logging as log
from precall.telemetry.metrics import Metrics
from tests.integration.engine.test_main_job import fault, results, row_of
from tests.support.api_daemon import a_binding, scripted, serving
from tests.support.locked import locked
from tests.support.patience import BRIEF, until

RATE = 200
HOUR = 3600


@pytest.fixture
def written(request: pytest.FixtureRequest) -> Iterator[Callable[[], list[str]]]:
    """All lines since the last time, as the daemon writes them. Parameter: the format."""
    stream = io.StringIO()
    logging.captureWarnings(capture=False)  # by what pytest has put in place since
    log.configure("info", getattr(request, "param", "json"), stream)

    def lines() -> list[str]:
        text = stream.getvalue()
        stream.seek(0)
        stream.truncate()
        return text.splitlines()

    yield lines
    log.configure("info")


@pytest.fixture
def hours(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[float], None]]:
    """Sets the moment that log records bear."""
    make, moment = logging.getLogRecordFactory(), [0.0]

    def stamped(*args: object, **more: object) -> logging.LogRecord:
        record = make(*args, **more)
        record.created = moment[0]
        return record

    logging.setLogRecordFactory(stamped)
    yield lambda at: moment.__setitem__(0, at)
    logging.setLogRecordFactory(make)


@pytest.mark.filterwarnings("default")
def test_every_logger_and_every_warning_writes_json(written: Callable[[], list[str]]) -> None:
    for name in (
        "aiohttp.server",
        "sqlalchemy.engine",
        "apscheduler.scheduler",
        "asyncio",
        "alembic",
        "somebody",
    ):
        logging.getLogger(name).critical("it %s", "broke", extra={"fact": 1})
    warnings.warn("old ways", UserWarning, stacklevel=1)
    try:
        raise ValueError("two\nlines")
    except ValueError:
        logging.getLogger("somebody").exception("and a traceback")
    log.get_logger("precall.test").info("domain.event", key="value")
    told = [json.loads(line) for line in written()]
    assert [one["event"] for one in told[:6]] == ["it broke"] * 5 + [told[5]["event"]]
    assert "old ways" in told[5]["event"]
    assert ("Traceback" in told[6]["exception"], told[7]["key"]) == (True, "value")
    assert all({"level", "timestamp"} <= one.keys() for one in told)


@pytest.mark.parametrize("written", ["text"], indirect=True)
def test_text_is_one_line_per_event(written: Callable[[], list[str]]) -> None:
    logging.getLogger("sqlalchemy.pool").error("it %s", "broke")
    log.get_logger("precall.test").warning("domain.event", key="value")
    first, second = written()
    assert "it broke" in first
    assert "domain.event" in second
    assert "key=value" in second


def reply(second: int, chance: random.Random) -> Reply:
    """Each half minute: a provider that fails in several ways, refuses the account, answers for a moment."""
    if second % 30 >= 27:
        return Answer(Status(1), "17000000001", request_id="R")
    kinds = (Failure.TRANSIENT, Failure.TRANSIENT, Failure.MALFORMED, Failure.THROTTLED)
    kind = chance.choice(kinds) if second % 30 < 25 else Failure.ACCOUNT
    return NonAnswer(kind, "unknown_status", "detail", request_id=f"R-{second}")


@pytest.mark.slow(seconds=35)
def test_an_hour_of_outage_at_200_a_second_writes_fewer_than_500_lines(
    written: Callable[[], list[str]], hours: Callable[[float], None]
) -> None:
    chance, now = random.Random(7), 0.0
    standing = ProviderHealth(Quota(RATE, RATE, now), Metrics(), lambda: now, ("QueryCallStatus",))
    turns = 0
    for second in range(HOUR):
        now = float(second)
        hours(now)
        degraded = standing.outage.degraded
        for _ in range(RATE):
            standing.learn(reply(second, chance), 0.1, now)
        turns += standing.outage.degraded is not degraded
        if second % 60 == 0:
            log.tell_folded(now)
    lines = written()
    assert turns >= 2 * HOUR // 30 - 1, "it went to and fro"
    assert 10 < len(lines) < 500
    assert sum(json.loads(line).get("folded", 0) for line in lines) > 100


@pytest.mark.slow(seconds=15)
def test_an_hour_of_failures_of_all_parts_writes_fewer_than_500_lines(
    written: Callable[[], list[str]], hours: Callable[[float], None]
) -> None:
    ours, theirs = log.get_logger("precall.ledger"), logging.getLogger("asyncio")
    for second in range(HOUR):
        hours(float(second))
        for n in range(3):
            ours.error("store.down", error=f"error {n}", pending=n)
            ours.warning("store.back", seconds=n)
            ours.error("audit.unavailable", subs_id=str(n))
            theirs.error("Task %s failed", n, exc_info=ValueError(n))
    assert len(written()) < 500


async def test_a_provider_outage_logs_a_few_lines(tmp_path: Path, written: Callable[[], list[str]]) -> None:
    async with serving(tmp_path, scripted(*[1] * 200)) as served:
        fault(served, "reset")
        bindings = [a_binding(subs_id=str(place)) for place in range(1, 201)]
        await served.ask("POST", "/v1/bindings/batch", {"bindings": bindings})
        await until(lambda: results(served)["transient"] > 20 and served.daemon.parts.checker.outage.degraded)
        told = [json.loads(line)["event"] for line in written()]
        assert told.count("degraded.entered") == 1
        assert len(told) < 20, told


async def test_a_database_outage_logs_a_few_lines(tmp_path: Path, written: Callable[[], list[str]]) -> None:
    async with serving(tmp_path, scripted(3), store_timeout=BRIEF) as served:
        await served.register()
        await served.checked("1")
        written()
        async with locked(tmp_path / "precall.db"):
            for _ in range(50):
                status, body = await served.ask("GET", "/v1/routes/1")
                assert (status, body["reason"]) == (200, "audit_unavailable")
            refused = await asyncio.gather(
                *(served.ask("PUT", f"/v1/bindings/{n}", a_binding(subs_id=str(n))) for n in range(2, 52))
            )
            assert {status for status, _ in refused} == {503}
        await until(lambda: served.daemon.parts.writer.saving)
        assert row_of(served).binding.subs_id == "1"
        told = [json.loads(line)["event"] for line in written()]
        assert {"store.down", "store.back"} <= set(told)
        assert len(told) < 20, told
