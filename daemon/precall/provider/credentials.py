"""Which access key signs: the configured one, or what the provider's default chain gives, kept fresh.

The chain is slow and blocks (its asynchronous form stalls the event loop for seconds when callers race), so it
runs in one background thread at a time and everybody reads the snapshot it left. Only this module imports
alibabacloud_credentials, and only within that thread: the import is slow and reads the environment once.
"""

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from precall.concurrency import cancel_and_wait, guarded
from precall.provider.sign import Credential
from precall.telemetry.redaction import keep

_REFRESH_EVERY = 60.0
"""Seconds. The chain keeps its credential and only asks anew some 15 minutes before it expires."""
_RETRY_EVERY = 5.0
_NOISY_LOGGERS = ("alibabacloud-tea", "darabonba-core", "credentials")


class Credentials:
    """A credential that is read without waiting. `last_error` is safe to log, "" while all is well."""

    def __init__(self, configured: Credential | None, fetch: Callable[[], Credential] | None = None) -> None:
        """With `configured`, that one for ever; else what `fetch` (the default chain) returns or raises. It is
        called in a thread, one call at a time."""
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
        """The newest credential, the same object until it changes; None when there has been none yet."""
        return self._snapshot

    def same_as(self, other: "Credentials") -> bool:
        """Whether both are the default chain, or one and the same configured key."""
        return self.configured == other.configured

    async def start(
        self, patience: float = 5.0, broken: Callable[[BaseException], None] = lambda _error: None
    ) -> None:
        """Begin to refresh; wait at most `patience` seconds for the first credential. `broken` is called with the error
        that ends the refreshing, should one do so."""
        if self._fetch is None or self._task is not None:
            return
        self._task = guarded(self._keep_fresh(self._fetch), "credentials", broken)
        await self._next_round(patience)

    async def stop(self) -> None:
        """Stop refreshing. A fetch under way ends by itself, in its thread; its result is dropped."""
        if self._task is None:
            return
        await cancel_and_wait(self._task)
        self._task = None

    def refresh_soon(self) -> None:
        """Ask for a fetch now rather than at the next turn."""
        self._wanted.set()

    async def newer_than(self, used: Credential, patience: float) -> bool:
        """Whether there is another credential than `used`, after a refresh of at most `patience` seconds."""
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
                # Its text names files, URLs and roles; the kind says enough.
                self.last_error = f"the default credential chain failed ({type(error).__name__})"
            else:
                self.last_error = ""
                if fetched != self._snapshot:
                    keep(fetched.access_key_secret, fetched.security_token)
                    self._snapshot = fetched
            self._round.set()
            self._round.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(_RETRY_EVERY if self.last_error else _REFRESH_EVERY):
                    await self._wanted.wait()


def default_chain() -> Callable[[], Credential]:
    """The provider's default chain as a blocking function: environment, OIDC, CLI profile, credentials file,
    ECS role, credentials URI. It raises what the chain raises."""
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
    """On import the library's loggers are set to DEBUG, with handlers of their own on standard error."""
    for name in _NOISY_LOGGERS:
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.setLevel(logging.WARNING)
