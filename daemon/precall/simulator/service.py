"""The simulated provider without its sockets: it maps a request to a reply.

Steps, in order: authentication, faults, quota, parameters, business logic. Time is an argument.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum, auto
from typing import assert_never

from precall.simulator.calls import CallLog, beijing
from precall.simulator.dispatcher import CallTally
from precall.simulator.exchange import Exchange
from precall.simulator.faults import FaultPlan
from precall.simulator.gateway import (
    ACTIONS,
    CalledAction,
    Envelope,
    Gateway,
    RefusalError,
    action_hint,
    reply_format,
)
from precall.simulator.like import RecordedReply, Recording
from precall.simulator.message_queue import ExceptionWatch, MessageQueues
from precall.simulator.receipts import ReceiptQueue
from precall.simulator.replies import (
    BindingStatus,
    Reply,
    Style,
    Subscription,
    detail_reply,
    empty_reply,
    error_reply,
    garbage_reply,
    html_reply,
    queue_token_reply,
    secret_no_reply,
    status_reply,
    subscription_reply,
    truncated_reply,
)
from precall.simulator.scenario import (
    QUERY_CALL_DETAIL,
    QUERY_CALL_STATUS,
    QUERY_NUMBER_DETAIL,
    QUERY_QUEUE_TOKEN,
    QUERY_SUBSCRIPTION_DETAIL,
    Account,
    Fault,
    FaultKind,
    Scenario,
)
from precall.simulator.traffic import TokenBucket, Traffic
from precall.simulator.world import World

_PHONE = re.compile(r"\+?[0-9]{3,20}", re.ASCII)
"""The form of CallNo. The answer does not depend on it."""


class Silence(Enum):
    """Ways not to reply."""

    HANG = auto()
    RESET = auto()


@dataclass(frozen=True, slots=True)
class Delivery:
    """A reply to send after `delay` seconds, by a clock that is `ahead` by some seconds."""

    reply: Reply
    delay: float = 0.0
    ahead: float = 0.0


class Service:
    """All actions, for one account. Times are Unix seconds; the scenario starts at `origin`.

    What a `recording` has is replied as recorded.
    """

    def __init__(
        self, scenario: Scenario, origin: float, speed: float = 1.0, recording: Recording | None = None
    ) -> None:
        self._recording = recording
        self.replies = scenario.replies
        self.faults = FaultPlan(scenario.seed, speed)
        for fault in scenario.faults:
            self.faults.add(fault, origin)
        self.world = World(scenario, self.faults, origin, speed)
        self.calls = CallLog(
            speed, scenario.replies.query_date, full_width_quotes=scenario.replies.full_width_quotes
        )
        for call in scenario.calls:
            self.calls.add(call, origin)
        self.receipts = ReceiptQueue(scenario.seed, scenario.receipts.duplicates)
        self.exchange = Exchange(scenario.seed, self.world, self.calls, self.receipts, scenario.habits, speed)
        self.queues = MessageQueues(scenario.queues, scenario.seed)
        self.exceptions = ExceptionWatch(self.queues.put)
        self.gateway = Gateway(scenario.account, scenario.delisted, scenario.delisted_code)
        self.traffic = Traffic()
        self.tally = CallTally()
        self._set_quotas(scenario.account)
        self._handlers: dict[str, Callable[[Mapping[str, str], Style, float], Reply]] = {
            QUERY_CALL_STATUS: self._answer_status,
            QUERY_CALL_DETAIL: self._answer_detail,
            QUERY_SUBSCRIPTION_DETAIL: self._answer_subscription,
            QUERY_NUMBER_DETAIL: self._answer_secret_no,
            QUERY_QUEUE_TOKEN: self._answer_queue_token,
        }

    def change_account(self, account: Account) -> None:
        """Apply new keys, a token and quotas from now on. Quotas start full."""
        self.gateway.change_account(account)
        self._set_quotas(account)

    def handle(self, envelope: Envelope, now: float) -> Delivery | Silence:
        """Answer a request that arrived at `now`."""
        style = Style(reply_format(envelope), str(uuid.uuid4()).upper(), action_hint(envelope))
        try:
            called = self.gateway.authenticate(envelope, now)
            if self._recording is not None and (recorded := self._recording.reply(called, style.format)):
                return self._replay(called, recorded, now)
            self.gateway.check_action(called)
        except RefusalError as refusal:
            return self._deliver(error_reply(style, refusal.code, refusal.message, refusal.http_status))
        self.traffic.arrived(called.action, now)
        style = Style(style.format, style.request_id, called.action)
        subs_id, pool_key = called.parameters.get("SubsId", ""), called.parameters.get("PoolKey", "")
        fault = self.faults.strike_call(called.action, subs_id, pool_key, now)
        if fault is None:
            return self._deliver(self._answer(called, style, now))
        self.traffic.faults[fault.kind.value] += 1
        return self._apply_fault(fault, called, style, now)

    def _replay(self, called: CalledAction, recorded: RecordedReply, now: float) -> Delivery | Silence:
        self.traffic.arrived(called.action, now)
        if recorded.reply is None:
            return Silence.RESET if recorded.reset else Silence.HANG
        self.traffic.codes[recorded.reply.code] += 1
        return Delivery(recorded.reply, recorded.delay, recorded.ahead)

    def _apply_fault(
        self, fault: Fault, called: CalledAction, style: Style, now: float
    ) -> Delivery | Silence:
        match fault.kind:
            case FaultKind.HANG:
                return Silence.HANG
            case FaultKind.RESET:
                return Silence.RESET
            case FaultKind.SLOW:
                return self._deliver(self._answer(called, style, now), fault.delay)
            case FaultKind.THROTTLE:
                return self._deliver(
                    self._throttled(style, fault.code or "Throttling.User", fault.retry_after)
                )
            case FaultKind.ERROR:
                return self._deliver(self._error(fault, style))
            case FaultKind.HTML:
                return self._deliver(html_reply())
            case FaultKind.EMPTY:
                return self._deliver(empty_reply())
            case FaultKind.TRUNCATED:
                return self._deliver(truncated_reply(self._answer(called, style, now)))
            case FaultKind.GARBAGE:
                return self._deliver(garbage_reply(self.faults.noise()))
            case FaultKind.GONE | FaultKind.OUTAGE | FaultKind.SILENT:
                raise AssertionError(f"{fault.kind} hits bindings, not calls")
            case _:
                assert_never(fault.kind)

    def _answer(self, called: CalledAction, style: Style, now: float) -> Reply:
        if not self._quotas[called.action].take(now):
            account = self.gateway.account
            return self._throttled(style, account.throttle_code, account.retry_after)
        try:
            return self._handlers[called.action](called.parameters, style, now)
        except RefusalError as refusal:
            return error_reply(style, refusal.code, refusal.message, refusal.http_status)

    def _answer_status(self, parameters: Mapping[str, str], style: Style, now: float) -> Reply:
        subs_id, pool_key = _required(parameters, "SubsId"), _required(parameters, "PoolKey")
        call_no = parameters.get("CallNo", "")
        if call_no and not _PHONE.fullmatch(call_no):
            code = "isv.MOBILE_NUMBER_ILLEGAL"
            return error_reply(style, code, business_http_errors=self.replies.business_http_errors)
        answer = self.world.answer(subs_id, pool_key, now)
        if isinstance(answer, BindingStatus):
            return status_reply(style, answer, self.replies.no_number)
        return error_reply(style, answer, business_http_errors=self.replies.business_http_errors)

    def _answer_subscription(self, parameters: Mapping[str, str], style: Style, now: float) -> Reply:
        subs_id, number_x = _required(parameters, "SubsId"), _required(parameters, "PhoneNoX")
        binding = self.world.subscription(subs_id, number_x, _required(parameters, "PoolKey"), now)
        if isinstance(binding, str):
            return error_reply(style, binding, business_http_errors=self.replies.business_http_errors)
        return subscription_reply(
            style,
            Subscription(
                binding.subs_id,
                self.world.in_effect(binding, now),
                binding.number_x,
                binding.number_a,
                binding.number_b,
                binding.extension,
                "" if binding.expires_at is None else beijing(binding.expires_at),
            ),
        )

    def _answer_secret_no(self, parameters: Mapping[str, str], style: Style, now: float) -> Reply:
        number_x, pool_key = _required(parameters, "SecretNo"), _required(parameters, "PoolKey")
        secret_status = self.world.secret_status(number_x, pool_key, now)
        if isinstance(secret_status, str):
            return error_reply(style, secret_status, business_http_errors=self.replies.business_http_errors)
        return secret_no_reply(style, secret_status)

    def _answer_queue_token(self, parameters: Mapping[str, str], style: Style, now: float) -> Reply:
        name, kind = _required(parameters, "QueueName"), _required(parameters, "MessageType")
        token = self.queues.issue_token(name, kind, now)
        if token is None:
            # Which code the product has for this is not known.
            return error_reply(
                style, "isv.QUEUE_NOT_EXIST", business_http_errors=self.replies.business_http_errors
            )
        return queue_token_reply(style, token)

    def _answer_detail(self, parameters: Mapping[str, str], style: Style, now: float) -> Reply:
        call_id = _required(parameters, "CallId")
        prod_id, query_date = _integer(parameters, "ProdId"), _integer(parameters, "QueryDate")
        return detail_reply(style, self.calls.detail(call_id, prod_id, query_date, now))

    def _error(self, fault: Fault, style: Style) -> Reply:
        return error_reply(
            Style(fault.format or style.format, style.request_id, style.action),
            fault.code or "isp.SYSTEM_ERROR",
            fault.message,
            fault.http_status,
            business_http_errors=self.replies.business_http_errors,
        )

    def _throttled(self, style: Style, code: str, retry_after: int) -> Reply:
        return error_reply(
            style, code, business_http_errors=self.replies.business_http_errors, retry_after=retry_after
        )

    def _deliver(self, reply: Reply, delay: float = 0.0) -> Delivery:
        self.traffic.codes[reply.code] += 1
        return Delivery(reply, delay)

    def _set_quotas(self, account: Account) -> None:
        self._quotas = {action: TokenBucket(account.rate, max(1.0, account.rate)) for action in ACTIONS}
        per_minute = account.call_detail_rate_per_minute
        self._quotas[QUERY_CALL_DETAIL] = TokenBucket(per_minute / 60.0, max(1.0, per_minute))


def _required(parameters: Mapping[str, str], name: str) -> str:
    value = parameters.get(name, "")
    if not value:
        raise RefusalError(f"Missing{name}", f"{name} is mandatory for this action.")
    return value


def _integer(parameters: Mapping[str, str], name: str) -> int:
    value = _required(parameters, name)
    if not (value.isascii() and value.isdecimal()):
        raise RefusalError(f"Invalid{name}", f"Specified parameter {name} is not valid.")
    return int(value)
