"""A reload: another configuration is read and checked whole, then taken over at once, or refused with every mistake.

While one is refused the old one goes on, and nothing of the new one is in force. What a key takes effect with stands
in `settings`.
"""

import asyncio
from collections.abc import Callable

from precall.config.schema import ApiConfig, Config
from precall.config.settings import ReloadReport, Settings, compare, reconcile
from precall.core.errors import ConfigError
from precall.runtime.account import CloudAccount
from precall.runtime.systemd import SystemdNotifier
from precall.telemetry import logging as logs
from precall.telemetry.logging import get_logger
from precall.telemetry.metrics import Metrics

log = get_logger(__name__)


class Reloader:
    """Takes over what `read` gives, which raises ConfigError. `at_work` is held while the parts of a daemon are made,
    so that all of them are made of one configuration."""

    def __init__(
        self,
        read: Callable[[], Config],
        settings: Settings,
        admit: Callable[[ApiConfig], None],
        account: CloudAccount,
        metrics: Metrics,
        supervisor: SystemdNotifier,
        *,
        wall: Callable[[], float],
    ) -> None:
        """`admit` puts another section of the API in force. `wall` gives Unix seconds."""
        self.at_work = asyncio.Lock()
        self._read, self._settings, self._admit, self._account = read, settings, admit, account
        self._metrics, self._supervisor, self._wall = metrics, supervisor, wall

    async def reload(self) -> ReloadReport:
        """Take the configuration over as it is now. ConfigError when it has mistakes."""
        async with self.at_work:
            self._supervisor.reloading()
            try:
                found = await self._take_over(await asyncio.to_thread(self._read))
            except Exception as error:
                self._metrics.reload_ok.set(0)
                self._supervisor.reloaded("the newest configuration was refused; the one before goes on")
                if isinstance(error, ConfigError):
                    log.error("config.refused", mistakes=error.mistakes)
                    raise
                log.error("config.reload_broken", exc_info=error)
                raise ConfigError(
                    ["it could not be taken over for an unexpected reason, which is logged"]
                ) from error
            self._loaded()
            self._supervisor.reloaded("the configuration was loaded anew")
            changed, waiting = map(str, found.changed), [one.key for one in found.needs_restart]
            say = log.warning if waiting else log.info
            say("config.reloaded", changed=list(changed), needs_restart=waiting)
            return found

    def _loaded(self) -> None:
        self._metrics.reload_ok.set(1)
        self._metrics.reload_at.set(self._wall())

    async def _take_over(self, wanted: Config) -> ReloadReport:
        before = self._settings.config
        config, found = reconcile(before, wanted), compare(before, wanted)
        prepared = await self._account.prepare(config)
        # Nothing is awaited from here on until all is in force: no check and no read sees half of it.
        self._settings.take(config)
        self._admit(config.api)
        replaced = self._account.retune(prepared)
        if config.log != before.log:
            logs.configure(config.log.level, config.log.format)
        # What is left over goes when it can.
        await self._account.part_with(replaced)
        await self._account.state_policy()
        return found
