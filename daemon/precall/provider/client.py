"""The actions of the provider. Every failure is a value: no call raises.

Signing is in `sign`, HTTP in `endpoint`, parsing in `replies`, and the classes of failures in `failures`. The only
retries are made here: a stale nonce or token is renewed, a caller that is refused is left out, and the request is sent
once more, if the budget allows another call. Otherwise the reply is STALE, since the next request may well succeed.
When and how often to ask is decided elsewhere.
"""

import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from time import gmtime, strftime
from typing import Generic, Literal, TypeVar

from precall.config.schema import ProviderConfig
from precall.core.model import Answer, Binding, Failure, InEffect, NonAnswer, Reply
from precall.core.numbers import UNKNOWN
from precall.provider.credentials import Credentials
from precall.provider.endpoint import EndpointSettings, ProviderEndpoint, RawReply, Reader
from precall.provider.failures import TransportTrouble, stale_nonce, stale_token, trouble
from precall.provider.proxy import proxy_for
from precall.provider.replies import CallDetail, read_detail, read_status
from precall.provider.sign import Credential
from precall.provider.substitutes import read_secret_no, read_subscription

STATUS = "QueryCallStatus"
DETAIL = "QueryCallDetailByCallId"
SUBSCRIPTION = "QuerySubscriptionDetail"
NUMBER = "QuerySecretNoDetail"
StatusSource = Literal["call_status", "subscription_detail"]
QUESTIONS: dict[StatusSource, tuple[str, ...]] = {
    "call_status": (STATUS,),
    "subscription_detail": (SUBSCRIPTION, NUMBER),
}

CONNECT_TIMEOUT = 0.5
"""Seconds; less where `provider.timeout` is less."""

R_co = TypeVar("R_co", covariant=True)
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class TimedReply(Generic[R_co]):
    """A reply and the duration of its call in seconds, without the call that a retry repeated."""

    reply: R_co
    seconds: float


class Provider:
    """Every action of the provider. Between `start` and `close` calls run concurrently."""

    def __init__(
        self,
        config: ProviderConfig,
        credentials: Credentials,
        *,
        wall: Callable[[], float],
        monotonic: Callable[[], float],
        nonce: Callable[[], str],
    ) -> None:
        """`wall` dates the signatures, `monotonic` times the calls, `nonce` never returns a string twice."""
        self._config = config
        self.credentials = credentials
        self._wall = wall
        self._monotonic = monotonic
        self._nonce = nonce
        self._tls: ssl.SSLContext | None = None
        self._endpoints: dict[str, ProviderEndpoint] = {}
        self._retired: list[ProviderEndpoint] = []
        self._second = -1
        self._timestamp = ""

    async def start(self) -> None:
        """Prepare the sessions; nothing connects yet. The caller starts and stops the credentials."""
        self._open()

    def _open(self) -> None:
        wanted = _endpoint_settings(self._config)
        # Reading the certificates takes tens of milliseconds, and a simulator or a gateway beside needs none.
        if self._tls is None and any(settings.uses_tls for settings in wanted.values()):
            self._tls = ssl.create_default_context()
        self._endpoints = {
            action: ProviderEndpoint(settings, tls=self._tls, monotonic=self._monotonic)
            for action, settings in wanted.items()
        }

    def retune(self, config: ProviderConfig, credentials: Credentials) -> None:
        """Use this configuration from now on. Calls in flight end as they began; `part` closes their sessions."""
        self.credentials = credentials
        before, self._config = self._config, config
        if _endpoint_settings(config) != _endpoint_settings(before):
            self._retired += self._endpoints.values()
            self._open()

    async def part(self) -> None:
        """Close the connections of earlier settings, once their calls in flight have ended."""
        while self._retired:
            await self._retired.pop().finish()

    async def close(self) -> None:
        """Close every connection. Calls in flight end as transient failures."""
        endpoints, self._endpoints = [*self._endpoints.values(), *self._retired], {}
        self._retired.clear()
        for endpoint in endpoints:
            await endpoint.close()

    @property
    def questions(self) -> tuple[str, ...]:
        """The actions that `query_binding` uses."""
        return QUESTIONS[self._config.status_source]

    async def query_binding(
        self, binding: Binding, *, caller: str = "", again: Callable[[], bool]
    ) -> TimedReply[Reply]:
        """Ask for the state of a binding by `provider.status_source`. For the rest see `query_call_status`."""
        if self._config.status_source == "subscription_detail":
            return await self.query_subscription_detail(binding, again=again)
        return await self.query_call_status(binding, caller=caller, again=again)

    async def query_call_status(
        self, binding: Binding, *, caller: str = "", again: Callable[[], bool]
    ) -> TimedReply[Answer | NonAnswer]:
        """Ask for the state of a binding with QueryCallStatus.

        `caller` is the calling number, if it is known. It is sent as CallNo where `provider.send_call_no` says so,
        and if it is a number. The product page says no more of CallNo than that it is the calling number. So the answer
        is taken to concern the binding as a whole. A refusal, or "no such binding", may concern the caller alone: then
        the question is repeated without it, or counts as STALE if the budget does not allow that.

        `again` says whether the budget allows another call. It is called only before a retry.
        """
        params = {"PoolKey": binding.pool_key, "SubsId": binding.subs_id}
        if self._config.send_call_no == "number_a":
            return await self._ask(STATUS, params | {"CallNo": binding.number_a}, read_status, again)
        if self._config.send_call_no == "never" or caller in ("", UNKNOWN):
            return await self._ask(STATUS, params, read_status, again)
        asked = await self._ask(STATUS, params | {"CallNo": caller}, read_status, again)
        if not isinstance(asked.reply, NonAnswer) or asked.reply.failure not in (
            Failure.REFUSED,
            Failure.GONE,
        ):
            return asked
        if again():
            return await self._ask(STATUS, params, read_status, again)
        return replace(asked, reply=replace(asked.reply, failure=Failure.STALE))

    async def query_subscription_detail(
        self, binding: Binding, *, again: Callable[[], bool]
    ) -> TimedReply[Answer | InEffect | NonAnswer]:
        """Ask whether a binding is in effect, and if so whether its X is sound: one call for each question.

        A non-answer to either counts for both, since one half confirms nothing. `again` is as above.
        """
        params = {"PoolKey": binding.pool_key, "SubsId": binding.subs_id, "PhoneNoX": binding.number_x}
        first = await self._ask(SUBSCRIPTION, params, read_subscription, again)
        if not isinstance(first.reply, InEffect):
            return first
        params = {"PoolKey": binding.pool_key, "SecretNo": binding.number_x}
        second = await self._ask(NUMBER, params, read_secret_no, again)
        return TimedReply(second.reply, first.seconds + second.seconds)

    async def query_call_detail(
        self, call_id: str, prod_id: int, query_date_ms: int, *, again: Callable[[], bool]
    ) -> TimedReply[CallDetail | NonAnswer]:
        """Ask how a call ended. `query_date_ms` is its day in epoch milliseconds; `again` is as above.

        For a wrong product or day, and for a date in seconds, the provider answers as if the call were not over yet.
        """
        params = {"CallId": call_id, "ProdId": str(prod_id), "QueryDate": str(query_date_ms)}
        return await self._ask(DETAIL, params, read_detail, again)

    async def raw(self, action: str, params: Mapping[str, str]) -> RawReply:
        """Make one call of any action, and return its reply unread. It is not retried.

        An action of neither product is sent to the endpoint of QueryCallStatus.
        """
        credential = self.credentials.current()
        if credential is None:
            return RawReply(0.0, failure=trouble(TransportTrouble.NO_CREDENTIAL))
        return await self._call(action, params, credential)

    async def _ask(
        self, action: str, params: Mapping[str, str], reader: Reader[T], again: Callable[[], bool]
    ) -> TimedReply[T | NonAnswer]:
        credential = self.credentials.current()
        if credential is None:
            return TimedReply(trouble(TransportTrouble.NO_CREDENTIAL), 0.0)
        came = await self._call(action, params, credential)
        reply = came.read(reader)
        if isinstance(reply, NonAnswer) and await self._renewed(reply, credential):
            if again():
                came = await self._call(action, params, self.credentials.current() or credential)
                reply = came.read(reader)
            if isinstance(reply, NonAnswer) and (stale_nonce(reply) or stale_token(reply)):
                reply = replace(reply, failure=Failure.STALE)
        return TimedReply(reply, came.seconds)

    async def _renewed(self, reply: NonAnswer, used: Credential) -> bool:
        """Whether a retry may help: always after a stale nonce, after a stale token if there is a newer one."""
        if stale_nonce(reply):
            return True
        return stale_token(reply) and await self.credentials.newer_than(used, self._config.timeout)

    async def _call(self, action: str, params: Mapping[str, str], credential: Credential) -> RawReply:
        """Make one call with a new nonce and timestamp."""
        endpoint = self._endpoints.get(action) or self._endpoints.get(STATUS)
        if endpoint is None:
            return RawReply(0.0, failure=trouble(TransportTrouble.CLOSED))
        try:
            request = endpoint.signed(action, params, credential, self._now(), self._nonce())
        except ValueError:
            return RawReply(0.0, failure=trouble(TransportTrouble.UNSENDABLE))
        return await endpoint.post(request)

    def _now(self) -> str:
        now = int(self._wall())
        if now != self._second:
            self._second, self._timestamp = now, strftime("%Y-%m-%dT%H:%M:%SZ", gmtime(now))
        return self._timestamp


def _endpoint_settings(config: ProviderConfig) -> dict[str, EndpointSettings]:
    """The settings of each endpoint, by the action that it is for."""
    urls = {STATUS: config.endpoint, DETAIL: config.call_detail_endpoint}
    return {
        action: EndpointSettings(
            url=url,
            signature=config.signature,
            format=config.format,
            timeout=config.timeout,
            connect_timeout=min(CONNECT_TIMEOUT, config.timeout),
            # Checks, and beside them the checks on demand and the polls of calls.
            max_connections=2 * config.max_in_flight,
            proxy=proxy_for(config.proxy, url),
        )
        for action, url in urls.items()
    }
