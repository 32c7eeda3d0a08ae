"""A reload: another configuration is read and checked whole, then taken over at once, or refused with every mistake.

While one is refused the old one goes on, and nothing of the new one is in force. What a key takes effect with stands
in `settings`.
"""

import asyncio
from collections.abc import Callable

from precall.api.server import Server
from precall.clocks import Clocks
from precall.config.schema import Config
from precall.config.settings import ReloadReport, Settings, compare, reconcile
from precall.core.errors import ConfigError, StoreUnavailable
from precall.provider import Credentials, Provider
from precall.provider.account import credentials, provider_settings
from precall.runtime.restore import recall_turns
from precall.runtime.systemd import SystemdNotifier
from precall.telemetry import logging as logs
from precall.telemetry.logging import get_logger
from precall.telemetry.metrics import Metrics

log = get_logger(__name__)

PATIENCE = 3.0

Turns = list[tuple[str, float]]


class Reloader:
    """Takes over what `read` gives, which raises ConfigError. `at_work` is held while the parts of a daemon are made,
    so that all of them are made of one configuration."""

    def __init__(
        self,
        read: Callable[[], Config],
        settings: Settings,
        server: Server,
        provider: Provider,
        metrics: Metrics,
        supervisor: SystemdNotifier,
        *,
        clocks: Clocks,
        wall: Callable[[], float],
        sync_every: Callable[[float], None],
    ) -> None:
        self.at_work = asyncio.Lock()
        self._read, self._settings, self._server, self._provider = read, settings, server, provider
        self._metrics, self._supervisor = metrics, supervisor
        self._clocks, self._wall, self._sync_every = clocks, wall, sync_every
        self._owes_policy = False

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
        turns = await self._prepared(config)
        key = await self._key(config)
        policy, replaced = self._settings.policy, self._provider.credentials
        # Nothing is awaited from here on until all is in force: no check and no read sees half of it.
        self._settings.take(config)
        self._server.admit(config.api)
        self._provider.retune(provider_settings(config.provider), key)
        self._tune(turns)
        if config.source.every != before.source.every:
            self._sync_every(config.source.every)
        if config.log != before.log:
            logs.configure(config.log.level, config.log.format)
        # What is left over goes when it can.
        if key is not replaced:
            await replaced.stop()
        await self._provider.part()
        self._owes_policy |= self._settings.policy != policy
        await self.state_policy()
        return found

    async def _prepared(self, config: Config) -> Turns:
        """See that what is in files can be taken over too. Gives what a longer window of the brake reaches back to."""
        mistakes: list[str] = []
        turns: Turns = []
        try:
            credentials(config.provider)
        except ConfigError as error:
            mistakes += error.mistakes
        try:
            turns = await self._turns(config)
        except StoreUnavailable:
            mistakes.append("brake.window: a longer one needs the database, which is out of reach; try again")
        if mistakes:
            raise ConfigError(mistakes)
        return turns

    async def _turns(self, config: Config) -> Turns:
        services, window = self._server.services, config.brake.window
        if services is None or window <= self._settings.config.brake.window:
            return []
        return await recall_turns(services.store, self._clocks, window)

    async def _key(self, config: Config) -> Credentials:
        """The credentials in use, unless the configuration or a file in it names others; then those."""
        fresh = credentials(config.provider)
        if fresh.same_as(self._provider.credentials):
            return self._provider.credentials
        await fresh.start(PATIENCE)
        return fresh

    def _tune(self, turns: Turns) -> None:
        """What remembers a setting is told."""
        services, config = self._server.services, self._settings.config
        if services is None:
            return
        checker, provider, freshness, brake = (
            services.checker,
            config.provider,
            config.freshness,
            config.brake,
        )
        checker.quota.retune(provider.rate, provider.calls_at_once, self._clocks.tick())
        checker.planner.retune(
            provider.rate,
            max_age=freshness.max_age,
            abnormal_max_age=freshness.abnormal_max_age,
            min_interval=freshness.min_interval,
            abnormal_min_interval=freshness.abnormal_min_interval,
        )
        checker.brake.retune(brake.share, brake.floor, brake.window, turns)
        services.calls.retune(provider.call_detail_rate_per_minute)

    async def state_policy(self) -> None:
        """Let SQL readers of the table decide by the policy in force, if they do not yet and the database is there."""
        services = self._server.services
        if not self._owes_policy or services is None or not services.role.leads:
            return
        try:
            await services.store.state_policy(self._settings.policy)
        except StoreUnavailable as error:
            log.warning("policy.not_stated", error=str(error))
            return
        self._owes_policy = False
