"""The access key that signs: the configured one, or the one of the provider's default chain, kept fresh.

The chain is slow and blocks; even its asynchronous form stalls the event loop for seconds when callers race. It runs in
one background thread at a time, and everyone reads the latest snapshot. Only this module imports
alibabacloud_credentials, and only in that thread, since the import is slow and reads the environment once.
"""

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from precall.concurrency import cancel_and_wait, guarded
from precall.config.schema import ProviderConfig, secret
from precall.core.errors import ConfigError
from precall.provider.sign import Credential
from precall.telemetry.logging import get_logger
from precall.telemetry.redaction import keep

log = get_logger(__name__)

_REFRESH_EVERY = 60.0
"""Seconds. The chain caches its credential until some 15 minutes before it expires."""
_RETRY_EVERY = 5.0
_HINT = (
    "without an access key nothing is checked: set provider.access_key_id and access_key_secret_file; `precall init`"
    " writes a first configuration, and `precall demo` needs no account"
)
_NOISY_LOGGERS = ("alibabacloud-tea", "darabonba-core", "credentials")


class Credentials:
    """A credential that can be read without waiting. `last_error` is safe to log, "" after a success."""

    def __init__(self, configured: Credential | None, fetch: Callable[[], Credential] | None = None) -> None:
        """Use `configured` for ever, or the result of `fetch`, by default that of the default chain.

        `fetch` runs in a thread, one call at a time, and may raise anything.
        """
        self.configured = configured
        self._snapshot = configured
        if configured is not None:
            keep(configured.access_key_secret, configured.security_token)
        self._fetch = None if configured else fetch or default_chain()
        self._wanted = asyncio.Event()
        self._round = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self.last_error = ""

    def current(self) -> Credential | None:
        """Return the latest credential, None before the first. It is the same object until it changes."""
        return self._snapshot

    def same_as(self, other: "Credentials") -> bool:
        """Whether both use the default chain, or both the same configured key."""
        return self.configured == other.configured

    async def start(
        self, patience: float = 5.0, broken: Callable[[BaseException], None] = lambda _error: None
    ) -> None:
        """Start refreshing, and wait up to `patience` seconds for the first credential.

        `broken` is called with the error that ends the refreshing, should there be one.
        """
        if self._fetch is None or self._task is not None:
            return
        self._task = guarded(self._keep_fresh(self._fetch), "credentials", broken)
        await self._next_round(patience)

    async def stop(self) -> None:
        """Stop refreshing. A running fetch ends by itself in its thread, and its result is dropped."""
        if self._task is None:
            return
        await cancel_and_wait(self._task)
        self._task = None

    def refresh_soon(self) -> None:
        """Fetch now instead of at the next interval."""
        self._wanted.set()

    async def newer_than(self, used: Credential, patience: float) -> bool:
        """Whether there is a credential other than `used`, after a refresh of at most `patience` seconds."""
        if self._snapshot == used and self._task is not None:
            self.refresh_soon()
            await self._next_round(patience)
        return self._snapshot != used

    async def _next_round(self, patience: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(patience):
                await self._round.wait()

    async def _keep_fresh(self, fetch: Callable[[], Credential]) -> None:
        while True:
            self._wanted.clear()
            try:
                fetched = await asyncio.to_thread(fetch)
            except Exception as error:  # noqa: BLE001 - each link of the chain raises its own kind
                # The text names files, URLs and roles; the type says enough.
                why = f"the default credential chain failed ({type(error).__name__})"
                if not self.last_error:
                    log.warning("credentials.missing", error=why, hint=_HINT)
                self.last_error = why
            else:
                if self.last_error:
                    log.info("credentials.found")
                self.last_error = ""
                if fetched != self._snapshot:
                    keep(fetched.access_key_secret, fetched.security_token)
                    self._snapshot = fetched
            self._round.set()
            self._round.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(_RETRY_EVERY if self.last_error else _REFRESH_EVERY):
                    await self._wanted.wait()


def configured_credentials(config: ProviderConfig) -> Credentials:
    """Return the configured access key, or the default chain where none is configured.

    Raises ConfigError for a file that cannot be read and for a key that cannot be sent.
    """
    if not config.access_key_id:
        return Credentials(None)
    key = secret(config.access_key_secret, config.access_key_secret_file, "provider.access_key_secret_file")
    token = secret(config.security_token, config.security_token_file, "provider.security_token_file")
    try:
        return Credentials(Credential(config.access_key_id, key, token))
    except ValueError as error:
        raise ConfigError([f"provider.access_key_id, access_key_secret or security_token: {error}"]) from None


def default_chain() -> Callable[[], Credential]:
    """Return the provider's default chain as a blocking function, which raises what the chain raises.

    The chain tries the environment, OIDC, the CLI profile, the credentials file, the ECS role and the credentials URI.
    """
    client: Any = None

    def fetch() -> Credential:
        nonlocal client
        from alibabacloud_credentials.client import Client  # noqa: PLC0415 - slow, and reads the environment

        if client is None:
            _quieten()
            client = Client()
        model = client.get_credential()
        return Credential(model.access_key_id, model.access_key_secret, model.security_token or "")

    return fetch


def _quieten() -> None:
    """Undo what the import does: it sets its loggers to DEBUG and gives them handlers on standard error.

    A failure is logged here. The library would repeat it at each attempt, with a traceback.
    """
    for name in _NOISY_LOGGERS:
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.setLevel(logging.CRITICAL)
