"""Notifications reach their targets, and no target holds up the loop, another target, or the daemon."""

import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest

from precall.config.schema import Config
from precall.config.settings import Settings
from precall.core.errors import ConfigError
from precall.core.status.messages import trial
from precall.core.status.texts import Language
from precall.engine.notifier import LATE, QUEUE, Notifier, TargetDelivery
from precall.engine.notify_targets import NotifyTarget, configured_targets
from precall.runtime import account
from precall.telemetry import logging as log
from precall.telemetry.metrics import Metrics
from precall.telemetry.redaction import concealed
from tests.integration.runtime.test_reload import reloading
from tests.support.api_daemon import serving
from tests.support.findings import finding, plain_words
from tests.support.patience import PATIENCE, until
from tests.support.webhook import webhook

MESSAGE = trial("hill", Language.EN)


def settings(*urls: str, **more: object) -> Settings:
    return Settings(Config(notify={"urls": list(urls), **more}))  # type: ignore[arg-type]


class Bench:
    """A notifier that leads, and the clock of what it observes."""

    def __init__(self, notifier: Notifier, metrics: Metrics) -> None:
        self.notifier, self.metrics, self.now, self.failed = notifier, metrics, 1000.0, 0

    def tell(self, pool_key: str) -> None:
        """Have one message queued."""
        self.now += 1000.0
        self.notifier.observe([finding(pool_key=pool_key)], self.now)
        self.now += 3.0
        self.notifier.observe([finding(pool_key=pool_key)], self.now)

    def count(self, result: str) -> float:
        value = self.metrics.registry.get_sample_value("precall_notifications_total", {"result": result})
        assert value is not None
        return value


@asynccontextmanager
async def notifying(
    *urls: str, limit: float = PATIENCE, pauses: Sequence[float] = (), **more: object
) -> AsyncIterator[Bench]:
    given, metrics = settings(*urls, **more), Metrics()
    targets = configured_targets(given.config.notify)
    notifier = Notifier(given, metrics, targets, host="hill", words=plain_words, limit=limit, pauses=pauses)
    broken: list[BaseException] = []
    notifier.start(lambda: True, broken.append)
    try:
        yield Bench(notifier, metrics)
    finally:
        await notifier.close()
    assert not broken


async def test_a_message_arrives_with_its_kind_and_its_end() -> None:
    with webhook() as hook:
        async with notifying(hook.url) as bench:
            bench.tell("FC1")
            bench.notifier.observe([], bench.now + 10)
            bench.notifier.observe([], bench.now + 13)
            await until(lambda: len(hook.posts) == 2)
            await until(lambda: bench.count("sent") == 2)
        [appeared, over] = hook.posts
        assert (appeared["title"], appeared["type"]) == (
            "[CRITICAL] precall hill: brake_engaged en FC1",
            "failure",
        )
        assert "Remedy: precall fix --pool-key FC1" in appeared["message"]
        assert over["type"] == "success"
        assert "over after" in over["title"]


async def test_a_target_that_hangs_holds_up_neither_the_loop_nor_another_target() -> None:
    with webhook() as stuck, webhook() as well:
        stuck.held.set()
        async with notifying(stuck.url, well.url, limit=0.2, pauses=(0.0,)) as bench:
            bench.tell("FC1")
            await until(lambda: bench.count("failed") == 1)
            bench.tell("FC2")
            await until(lambda: bench.count("failed") == 2)
            await until(lambda: bench.count("sent") == 2)
            await until(lambda: stuck.posts)
        assert len(stuck.posts) == 1, "no second thread, while the first one hangs"
        assert "FC2" in well.posts[1]["message"]


async def test_what_a_target_does_not_take_is_tried_again_and_counted(
    capsys: pytest.CaptureFixture[str],
) -> None:
    log.configure("debug", "text")
    with webhook() as hook:
        hook.status = 500
        async with notifying(hook.url, pauses=(0.0, 0.0)) as bench:
            bench.tell("FC1")
            await until(lambda: bench.count("failed") == 1)
            assert len(hook.posts) == 3
            hook.status = 200
            bench.tell("FC2")
            await until(lambda: bench.count("sent") == 1)
    said = capsys.readouterr().err
    assert said.count("notify.failed") == 2
    assert "HTTP 500" in said
    assert "notify.lost" in said
    assert "notify.urls.0 (JSON)" in said
    assert "hush-hush" not in said
    assert "very-secret-path" not in said


async def test_a_queue_that_is_full_drops_the_oldest(capsys: pytest.CaptureFixture[str]) -> None:
    log.configure("info", "text")
    with webhook() as hook:
        hook.held.set()
        async with notifying(hook.url) as bench:
            bench.tell("FC0")
            await until(lambda: hook.posts)
            for at in range(1, QUEUE + 3):
                bench.tell(f"FC{at}")
            assert bench.count("dropped") == 2
            hook.held.clear()
            hook.released.set()
            await until(lambda: bench.count("sent") == QUEUE + 1)
    assert f"FC{QUEUE + 2}" in hook.posts[-1]["message"]
    assert "the queue is full" in capsys.readouterr().err


async def test_a_target_that_cannot_be_reached_is_said_not_to_deliver() -> None:
    with webhook() as hook:
        url = hook.url
    [target] = configured_targets(settings(url).config.notify)
    assert await TargetDelivery(target).send(MESSAGE) == "not delivered"


async def test_an_attempt_that_is_late_says_so() -> None:
    with webhook() as hook:
        hook.held.set()
        [target] = configured_targets(settings(hook.url).config.notify)
        assert await TargetDelivery(target).send(MESSAGE, 0.1) == LATE


def test_what_apprise_does_not_take_is_named_by_its_place_and_nothing_secret() -> None:
    with pytest.raises(ConfigError) as caught:
        configured_targets(
            settings("json://127.0.0.1", "nope://hush-hush/secret", "slack://short").config.notify
        )
    assert [mistake.partition(": ")[::2] for mistake in caught.value.mistakes] == [
        (
            f"notify.urls.{at}",
            f'apprise does not take "{scheme}://..."; its documentation shows how each service is addressed',
        )
        for at, scheme in ((1, "nope"), (2, "slack"))
    ]


def test_without_the_extra_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "apprise", None)
    with pytest.raises(ConfigError, match=r"notify.urls: needs the extra `notify`.*precall\[notify\]"):
        configured_targets(settings("json://127.0.0.1").config.notify)
    assert configured_targets(settings().config.notify) == []


def test_an_error_of_a_service_is_told_without_its_text() -> None:
    class Broken:
        def notify(self, **_message: object) -> bool:
            raise ValueError("no route to json://hush-hush")

    assert NotifyTarget("notify.urls.0 (JSON)", "json://hush-hush", Broken()).send(MESSAGE) == "ValueError"


def test_addresses_are_redacted_in_all_lines_but_hosts_are_not() -> None:
    configured_targets(settings("json://127.0.0.1/hush-hush-hush").config.notify)
    assert "hush" not in concealed("it failed: json://127.0.0.1/hush-hush-hush")
    assert concealed("listens on 127.0.0.1:8080") == "listens on 127.0.0.1:8080"


def test_a_file_has_further_targets(tmp_path: Path) -> None:
    file = tmp_path / "urls"
    file.write_text("# on call\n\njson://127.0.0.1/hush-hush\n")
    config = settings("xml://127.0.0.1", urls_file=str(file)).config.notify
    assert [target.name for target in configured_targets(config)] == [
        "notify.urls.0 (XML)",
        "notify.urls_file: line 3 (JSON)",
    ]
    file.write_text("json://127.0.0.1\nhush-hush\n\nhush again\n")
    with pytest.raises(ConfigError) as caught:
        configured_targets(config)
    assert [mistake.partition(": this")[0] for mistake in caught.value.mistakes] == [
        "notify.urls_file: line 2",
        "notify.urls_file: line 4",
    ]
    file.unlink()
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        configured_targets(config)


# -- in the daemon -----------------------------------------------------------------------------------------


@pytest.fixture
def _plain(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(account, "Notifier", partial(Notifier, words=plain_words))


@pytest.mark.usefixtures("_plain")
async def test_a_daemon_that_leads_notifies(tmp_path: Path) -> None:
    with webhook() as hook:
        async with serving(tmp_path, notify={"urls": hook.url}) as served:
            notifier = served.daemon.account.notifier
            for now in (1000.0, 1003.0):
                notifier.observe([finding()], now)
            await until(lambda: hook.posts)
            served.daemon.parts.role.fence()
            for now in (2000.0, 2003.0):
                notifier.observe([], now)
        assert [title.rpartition(": ")[2] for title in hook.titles()] == ["brake_engaged en FC1"]


@pytest.mark.usefixtures("_plain")
async def test_a_reload_takes_other_targets_and_keeps_what_waits_for_the_same(tmp_path: Path) -> None:
    with webhook() as old, webhook() as new:
        async with reloading(tmp_path) as desk:
            notifier = desk.daemon.account.notifier
            notifier.observe([finding()], 1000.0)
            desk.write(f'[notify]\nurls = "{old.url}"')
            assert await desk.reloaded() == {"changed": ["notify.urls"], "needs_restart": []}
            for now in (2000.0, 2003.0):
                notifier.observe([finding()], now)
            await until(lambda: old.posts)
            desk.write(f'[notify]\nurls = ["{new.url}"]\nlang = "zh"')
            assert (await desk.reloaded())["changed"] == ["notify.urls", "notify.lang"]
            for now in (3000.0, 3003.0):
                notifier.observe([], now)
            await until(lambda: new.posts)
            desk.write('[notify]\nurls = ["nope://hush-hush"]')
            status, body = await desk.reload()
            assert (status, body["field"]) == (422, "notify.urls.0")
            assert "hush" not in str(body)
        assert len(old.posts) == 1
        assert "已结束" in new.posts[0]["title"]


@pytest.mark.usefixtures("_plain")
async def test_a_slow_target_keeps_its_messages_over_a_reload(tmp_path: Path) -> None:
    with webhook() as hook:
        hook.held.set()
        text = f'[notify]\nurls = "{hook.url}"\n'
        async with reloading(tmp_path, text=text) as desk:
            notifier = desk.daemon.account.notifier
            for now in (1000.0, 1003.0):
                notifier.observe([finding()], now)
            await until(lambda: hook.posts)
            for now in (2000.0, 2003.0):
                notifier.observe([], now)
            desk.write(f'{text}repeat = "1h"')
            assert (await desk.reloaded())["changed"] == ["notify.repeat"]
            hook.held.clear()
            hook.released.set()
            await until(lambda: len(hook.posts) == 2)


async def test_a_daemon_on_standby_notifies_nobody() -> None:
    given, metrics = settings("json://127.0.0.1"), Metrics()
    notifier = Notifier(
        given, metrics, configured_targets(given.config.notify), host="hill", words=plain_words
    )
    for now in (1000.0, 1003.0):
        notifier.observe([finding()], now)
    await notifier.close()
