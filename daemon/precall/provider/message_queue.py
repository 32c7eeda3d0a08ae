"""One message queue of the provider over HTTP: receives batches and deletes messages. Every failure is a value.

The protocol is in `mns`. The queue's temporary key is asked for with the access key of the account, and renewed before
it expires or once it is refused. A change of `[provider]` takes effect with the next request.
"""

import ssl
from collections.abc import Callable, Sequence
from time import gmtime, strftime
from typing import TypeVar

from precall.config.receipt_queue import ReceiptsConfig, message_type
from precall.config.schema import ProviderConfig
from precall.config.settings import Settings
from precall.core.model import NonAnswer
from precall.provider.client import CONNECT_TIMEOUT
from precall.provider.endpoint import EndpointSettings, ProviderEndpoint, Reader
from precall.provider.failures import TransportTrouble, trouble
from precall.provider.mns import (
    LARGEST_BATCH,
    WAIT,
    QueueMessage,
    QueueToken,
    deletion_body,
    deletion_target,
    messages_target,
    read_deletion,
    read_messages,
    read_token,
    signed_headers,
)
from precall.provider.proxy import proxy_for
from precall.provider.replies import BODY_LIMIT
from precall.provider.sign import Credential
from precall.telemetry.redaction import keep

TOKEN = "QueryTokenForMnsQueue"  # noqa: S105 - the name of an action
_EARLY = 120.0
"""Seconds before its end from which a token is renewed."""
_UNKNOWN_LIFE = 300.0
"""Seconds for which a token is used whose end is not known, or seems to be near or past."""

T = TypeVar("T")


class MessageQueue:
    """A queue. One request is made at a time."""

    def __init__(
        self,
        name: str,
        settings: Settings,
        credential: Callable[[], Credential | None],
        *,
        wall: Callable[[], float],
        monotonic: Callable[[], float],
        nonce: Callable[[], str],
    ) -> None:
        """`credential` returns the key of the account, None while there is none; the rest is as for `Provider`."""
        self.name, self.kind = name, message_type(name)
        self._settings, self._credential = settings, credential
        self._wall, self._monotonic, self._nonce = wall, monotonic, nonce
        self._tls: ssl.SSLContext | None = None
        self._reached: tuple[EndpointSettings, EndpointSettings] | None = None
        self._endpoints: tuple[ProviderEndpoint, ...] = ()
        self._token: QueueToken | None = None
        self._token_until = 0.0

    async def receive(self) -> list[QueueMessage] | NonAnswer:
        """Return a batch of messages. At an empty queue, wait for one; then return none."""
        target = messages_target(self.name)
        return await self._call("GET", target, None, read_messages)

    async def delete(self, messages: Sequence[QueueMessage]) -> NonAnswer | None:
        """Delete a batch, so that it does not come again."""
        target = deletion_target(self.name)
        return await self._call("DELETE", target, deletion_body(messages), read_deletion)

    async def close(self) -> None:
        """Close the connections."""
        endpoints, self._endpoints, self._reached = self._endpoints, (), None
        for endpoint in endpoints:
            await endpoint.close()

    async def _call(
        self,
        method: str,
        target: str,
        body: bytes | None,
        reader: Reader[T],
    ) -> T | NonAnswer:
        for_tokens, for_messages = await self._open()
        token = await self._current_token(for_tokens)
        if isinstance(token, NonAnswer):
            return token
        headers = signed_headers(token.credential, method, target, self._wall())
        reply = await for_messages.send(method, target, headers, body)
        if reply.http_status in (401, 403):
            self._token = None
        return reply.read(reader)

    async def _current_token(self, endpoint: ProviderEndpoint) -> QueueToken | NonAnswer:
        now = self._wall()
        if self._token is not None and now < self._token_until:
            return self._token
        credential = self._credential()
        if credential is None:
            return trouble(TransportTrouble.NO_CREDENTIAL)
        timestamp = strftime("%Y-%m-%dT%H:%M:%SZ", gmtime(now))
        params = {"MessageType": self.kind, "QueueName": self.name}
        reply = await endpoint.post(endpoint.signed(TOKEN, params, credential, timestamp, self._nonce()))
        token = reply.read(read_token)
        if isinstance(token, QueueToken):
            keep(token.credential.access_key_secret, token.credential.security_token)
            self._token = token
            self._token_until = max(now + _UNKNOWN_LIFE, (token.expires_at or now) - _EARLY)
        return token

    async def _open(self) -> tuple[ProviderEndpoint, ProviderEndpoint]:
        """Return the endpoints of tokens and messages."""
        config = self._settings.config
        wanted = _endpoint_settings(config.receipts, config.provider)
        if wanted != self._reached:
            await self.close()
            if self._tls is None and any(settings.uses_tls for settings in wanted):
                self._tls = ssl.create_default_context()
            self._endpoints = tuple(
                ProviderEndpoint(settings, tls=self._tls, monotonic=self._monotonic) for settings in wanted
            )
            self._reached = wanted
        for_tokens, for_messages = self._endpoints
        return for_tokens, for_messages


def _endpoint_settings(
    receipts: ReceiptsConfig, provider: ProviderConfig
) -> tuple[EndpointSettings, EndpointSettings]:
    def reached(url: str, timeout: float, body_limit: int) -> EndpointSettings:
        return EndpointSettings(
            url=url,
            signature=provider.signature,
            format=provider.format,
            timeout=timeout,
            connect_timeout=min(CONNECT_TIMEOUT, provider.timeout),
            max_connections=1,
            proxy=proxy_for(provider.proxy, url),
            body_limit=body_limit,
        )

    return (
        reached(receipts.token_endpoint, provider.timeout, BODY_LIMIT),
        reached(receipts.queue_endpoint, WAIT + provider.timeout, LARGEST_BATCH),
    )
