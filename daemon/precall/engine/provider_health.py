"""Provider health: what replies say about the provider and the account, and whether a call may be made now.

`core.limits.quota` and `core.limits.outage` decide. This module feeds replies to them, and logs each transition once.
"""

from collections.abc import Callable
from math import inf

from precall.core.ages import Tick
from precall.core.limits.outage import Outage, PoolGoneDetector
from precall.core.limits.quota import Circuit, Priority, Quota
from precall.core.limits.recent_checks import RecentChecks
from precall.core.model import Answer, Failure, NonAnswer, Reply, Row
from precall.core.status.facts import FailedCall, ProviderFacts
from precall.telemetry.logging import get_logger
from precall.telemetry.metrics import Metrics
from precall.telemetry.redaction import concealed

log = get_logger(__name__)

ALARM_EVERY = 60.0
SPELL = 60.0
"""Seconds between two throttled calls up to which they belong to one spell."""


class AccountHealth:
    """Quota and circuit breaker of one provider API. Throttling and account errors limit later calls.

    `refused` and `accepted` are the log events of the circuit. `action` and `facts` are logged with a refusal.
    """

    def __init__(self, quota: Quota, *, refused: str, accepted: str, action: str, **facts: str) -> None:
        self.quota, self.circuit = quota, Circuit()
        self.refusal = FailedCall()
        self._throttled_first = self._throttled_last = -inf
        self._refused, self._accepted, self._facts = refused, accepted, {"action": action} | facts

    def learn(self, reply: object, tick: Tick) -> Failure | None:
        """Process one reply. Return its failure, or None for an answer.

        While the account is refused, only probes are sent. A reply about any binding or call closes the circuit.
        """
        failure = reply.failure if isinstance(reply, NonAnswer) else None
        if isinstance(reply, NonAnswer) and failure is Failure.THROTTLED:
            self.quota.throttled(tick, reply.retry_after)
            if self.throttled_since(tick) is None:
                self._throttled_first = tick
            self._throttled_last = tick
        if failure is Failure.STALE and self.circuit.stale(tick):
            failure = Failure.ACCOUNT
        if isinstance(reply, NonAnswer) and failure is Failure.ACCOUNT:
            self.refusal = _failed(reply)
            if self.circuit.fault(tick):
                log.error(
                    self._refused,
                    code=reply.code,
                    detail=reply.detail,
                    request_id=reply.request_id,
                    **self._facts,
                )
        elif failure in (None, Failure.REFUSED, Failure.GONE):
            closed_after = self.circuit.answered(tick)
            if closed_after is not None:
                log.warning(self._accepted, seconds=round(closed_after, 1))
        return failure

    def throttled_since(self, tick: Tick) -> float | None:
        """Return the tick at which the spell of throttling now in progress began, or None."""
        return self._throttled_first if tick - self._throttled_last <= SPELL else None


class ProviderHealth:
    """Quota, circuit and degraded mode of one account."""

    def __init__(
        self, quota: Quota, metrics: Metrics, monotonic: Callable[[], float], actions: tuple[str, ...]
    ) -> None:
        """`actions` are the names of the API actions that a check calls."""
        self._account = AccountHealth(
            quota,
            refused="provider.refuses_us",
            accepted="provider.accepts_us_again",
            action=" and ".join(actions),
            routes="are kept and served; one probe every 30 s",
        )
        self.quota, self.circuit = quota, self._account.circuit
        self.outage, self.vanishing = Outage(), PoolGoneDetector()
        self._recent, self._failed = RecentChecks(), FailedCall()
        self._unreachable = False
        self._answered_at: float | None = None
        self._metrics, self._monotonic = metrics, monotonic
        self._alarmed: dict[str, float] = {}

    def may_call(self, tick: Tick) -> bool:
        """Return whether a background check may be made now.

        The circuit comes last, because asking it may use up one of its rare probes.
        """
        return (
            self.quota.until(tick, Priority.BACKGROUND) == 0
            and self.outage.admits(tick, self.quota.configured)
            and self.circuit.admits(tick)
        )

    def learn(self, reply: Reply, seconds: float, tick: Tick) -> None:
        """Process one reply, which took `seconds`."""
        self._metrics.check_duration.observe(seconds)
        failure = reply.failure if isinstance(reply, NonAnswer) else None
        if not isinstance(reply, NonAnswer):
            if isinstance(reply, Answer) and reply.malformed:
                self._metrics.malformed.labels("number").inc()
        elif failure is Failure.THROTTLED:
            self._metrics.throttled.inc()
        elif failure is Failure.MALFORMED:
            self._metrics.malformed.labels(reply.code).inc()
            if reply.code == "unknown_status":
                self._alarm("provider.api_changed", code=reply.code, request_id=reply.request_id)
        failure = self._account.learn(reply, tick)
        self._remember(reply, failure, tick)
        transition = self.outage.record(failure, tick)
        if transition is not None:
            say = log.error if transition.degraded else log.warning
            say(
                "degraded.entered" if transition.degraded else "degraded.left",
                checks=transition.checks,
                failures=transition.failures,
                seconds=round(transition.duration, 1),
            )

    def facts(self, tick: Tick, moment_of: Callable[[float], float]) -> ProviderFacts:
        """Return the state of provider and account. `moment_of` turns a tick into Unix seconds."""

        def moment(at: float | None) -> float | None:
            return None if at is None else moment_of(at)

        return ProviderFacts(
            rate=self.quota.rate,
            rate_configured=self.quota.configured,
            last_answer=moment(self._answered_at),
            failing=self._recent.failing(tick),
            tally=self.outage.tally,
            failure=self._failed,
            degraded_since=moment(self.outage.since) if self._unreachable else None,
            refused_since=moment(self.circuit.opened_at),
            refusal=self._account.refusal,
            throttled_since=moment(self._account.throttled_since(tick)),
        )

    def _remember(self, reply: Reply, failure: Failure | None, tick: Tick) -> None:
        """Remember how this check ended. One that was throttled, or had a stale nonce, was not carried out."""
        if not isinstance(reply, NonAnswer):
            self._answered_at = tick
        elif failure is Failure.TRANSIENT:
            self._failed, self._unreachable = _failed(reply), True
        elif failure is Failure.ACCOUNT:
            self._unreachable = False
        if failure not in (Failure.THROTTLED, Failure.STALE):
            self._recent.record(tick, failed=failure is Failure.TRANSIENT)

    def believes(self, reply: Reply, row: Row, tick: Tick) -> bool:
        """Return whether a reply is credible. "No such binding" is not while a whole pool reports it at once."""
        pool_key, subs_id = row.binding.pool_key, row.binding.subs_id
        if not isinstance(reply, NonAnswer):
            self.vanishing.answered(pool_key, subs_id)
        elif reply.failure is Failure.GONE and not self.vanishing.credible(pool_key, subs_id, tick):
            self._alarm("provider.pool_vanished", pool=pool_key, request_id=reply.request_id)
            return False
        return True

    def _alarm(self, event: str, **facts: str) -> None:
        """Log an error, at most once a minute per event."""
        tick = self._monotonic()
        if tick - self._alarmed.get(event, -ALARM_EVERY) >= ALARM_EVERY:
            self._alarmed[event] = tick
            log.error(event, **facts)


def _failed(reply: NonAnswer) -> FailedCall:
    return FailedCall(reply.code, concealed(reply.detail), reply.request_id)
