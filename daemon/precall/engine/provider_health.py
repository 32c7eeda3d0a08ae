"""What replies say of the provider and of us, not of a binding: our standing, and so whether a call may be made now.

Decided in `core.quota` and `core.outage`; here replies are shown to them, and their turns told, once each.
"""

from collections.abc import Callable

from precall.core.ages import Tick
from precall.core.limits.outage import Outage, PoolGoneDetector
from precall.core.limits.quota import Circuit, Priority, Quota
from precall.core.model import Answer, Failure, NonAnswer, Reply, Row
from precall.telemetry.logging import get_logger
from precall.telemetry.metrics import Metrics

log = get_logger(__name__)

ALARM_EVERY = 60.0


class AccountHealth:
    """Quota and circuit of one of the provider's APIs: what throttling and refusals of the account mean for the calls
    to come. `refused` and `accepted` are the log events of the circuit, `action` is what was asked, `facts` go along
    with a refusal."""

    def __init__(self, quota: Quota, *, refused: str, accepted: str, action: str, **facts: str) -> None:
        self.quota, self.circuit = quota, Circuit()
        self._refused, self._accepted, self._facts = refused, accepted, {"action": action} | facts

    def learn(self, reply: object, tick: Tick) -> Failure | None:
        """Take in one reply; gives its failure, None for an answer. While the account is refused, only a probe is
        asked; a word on any binding or call means that it is not."""
        failure = reply.failure if isinstance(reply, NonAnswer) else None
        if isinstance(reply, NonAnswer) and failure is Failure.THROTTLED:
            self.quota.throttled(tick, reply.retry_after)
        if failure is Failure.STALE and self.circuit.stale(tick):
            failure = Failure.ACCOUNT
        if isinstance(reply, NonAnswer) and failure is Failure.ACCOUNT:
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


class ProviderHealth:
    """Quota, circuit and degraded mode of one account."""

    def __init__(
        self, quota: Quota, metrics: Metrics, monotonic: Callable[[], float], questions: tuple[str, ...]
    ) -> None:
        """`questions` are the names of the actions a check asks."""
        self._account = AccountHealth(
            quota,
            refused="provider.refuses_us",
            accepted="provider.accepts_us_again",
            action=" and ".join(questions),
            routes="are kept and served; one probe every 30 s",
        )
        self.quota, self.circuit = quota, self._account.circuit
        self.outage, self.vanishing = Outage(), PoolGoneDetector()
        self._metrics, self._monotonic = metrics, monotonic
        self._alarmed: dict[str, float] = {}

    def may_call(self, tick: Tick) -> bool:
        """Whether a background check may be made now: quota, then degraded mode, then the circuit, whose probes
        are few."""
        return (
            self.quota.until(tick, Priority.BACKGROUND) == 0
            and self.outage.admits(tick, self.quota.configured)
            and self.circuit.admits(tick)
        )

    def learn(self, reply: Reply, seconds: float, tick: Tick) -> None:
        """Take in one reply that came after `seconds`."""
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
        turn = self.outage.record(self._account.learn(reply, tick), tick)
        if turn is not None:
            say = log.error if turn.degraded else log.warning
            say(
                "degraded.entered" if turn.degraded else "degraded.left",
                checks=turn.checks,
                failures=turn.failures,
                seconds=round(turn.duration, 1),
            )

    def believes(self, reply: Reply, row: Row, tick: Tick) -> bool:
        """Whether "no such binding" may be taken as an answer: not while a whole pool says so at once."""
        pool_key, subs_id = row.binding.pool_key, row.binding.subs_id
        if not isinstance(reply, NonAnswer):
            self.vanishing.answered(pool_key, subs_id)
        elif reply.failure is Failure.GONE and not self.vanishing.credible(pool_key, subs_id, tick):
            self._alarm("provider.pool_vanished", pool=pool_key, request_id=reply.request_id)
            return False
        return True

    def _alarm(self, event: str, **facts: str) -> None:
        """Say it loudly, but not more than once a minute."""
        tick = self._monotonic()
        if tick - self._alarmed.get(event, -ALARM_EVERY) >= ALARM_EVERY:
            self._alarmed[event] = tick
            log.error(event, **facts)
