"""Reload the configuration: read and check all of it, then put it in force at once or refuse it with every mistake.

After a refusal the old configuration stays in force as a whole. `settings` knows which keys need a restart.
"""

import asyncio
from collections.abc import Callable

from precall.config.schema import ApiConfig, Config
from precall.config.settings import ReloadReport, Settings, compare, reconcile
from precall.core.errors import ConfigError
from precall.engine.process_state import RefusedReload
from precall.runtime.account import CloudAccount
from precall.runtime.systemd import SystemdNotifier
from precall.telemetry import logging as logs
from precall.telemetry.logging import get_logger
from precall.telemetry.metrics import Metrics

log = get_logger(__name__)

_UNEXPECTED = "it could not be applied because of an unexpected error; see the log"


class Reloader:
    """Puts in force what `read` returns, which raises ConfigError.

    `at_work` is held while the parts of a daemon are made, so that all of them follow one configuration.
    """

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
        self.refused: RefusedReload | None = None
        self.at_work = asyncio.Lock()
        self._read, self._settings, self._admit, self._account = read, settings, admit, account
        self._metrics, self._supervisor, self._wall = metrics, supervisor, wall

    async def reload(self) -> ReloadReport:
        """Put the configuration in force as it is now. Raises ConfigError with its mistakes."""
        async with self.at_work:
            self._supervisor.reloading()
            try:
                found = await self._take_over(await asyncio.to_thread(self._read))
            except Exception as error:
                self._metrics.reload_ok.set(0)
                mistakes = error.mistakes if isinstance(error, ConfigError) else (_UNEXPECTED,)
                self.refused = RefusedReload(self._wall(), tuple(mistakes))
                self._supervisor.reloaded(
                    "the new configuration was refused; the previous one stays in force"
                )
                if isinstance(error, ConfigError):
                    log.error("config.refused", mistakes=error.mistakes)
                    raise
                log.error("config.reload_broken", exc_info=error)
                raise ConfigError([_UNEXPECTED]) from error
            self._loaded()
            self.refused = None
            self._supervisor.reloaded("the configuration was reloaded")
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
        # Do not await until all is in force: no check and no read may see half of it.
        self._settings.take(config)
        self._admit(config.api)
        replaced = self._account.retune(prepared)
        if config.log != before.log:
            logs.configure(config.log.level, config.log.format)
        # Close what the old configuration still holds open.
        await self._account.close_replaced(replaced, prepared)
        await self._account.store_policy()
        return found
