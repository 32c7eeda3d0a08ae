"""What provider and account are known to be, by the replies."""

from precall.core.ages import Tick
from precall.core.limits.quota import Quota
from precall.core.limits.recent_checks import CheckTally
from precall.core.model import Failure, Reply
from precall.core.status.facts import FailedCall, ProviderFacts
from precall.engine.provider_health import ProviderHealth
from precall.telemetry.metrics import Metrics
from tests.support.builders import answer, failure

RESET = failure(Failure.TRANSIENT, "reset", detail="dropped", request_id="R-9")
ARREARS = failure(Failure.ACCOUNT, "OUT_OF_SERVICE", detail="in arrears", request_id="R-7")
THROTTLED = failure(Failure.THROTTLED, "Throttling.User")
EPOCH = 1_790_000_000.0


class Account:
    """Provider health under a clock that the test moves. Moments are `EPOCH` plus the tick."""

    def __init__(self) -> None:
        self.now = 0.0
        self.health = ProviderHealth(
            Quota(10.0, 10.0, 0.0), Metrics(), lambda: Tick(self.now), ("QueryCallStatus",)
        )

    def hear(self, reply: Reply, times: int = 1, every: float = 0.1) -> ProviderFacts:
        for _ in range(times):
            self.now += every
            self.health.learn(reply, 0.01, Tick(self.now))
        return self.facts()

    def facts(self) -> ProviderFacts:
        return self.health.facts(Tick(self.now), lambda tick: EPOCH + tick)


def test_an_answer_is_remembered() -> None:
    account = Account()
    assert account.facts() == ProviderFacts(rate=10.0, rate_configured=10.0)
    assert account.hear(answer(1)).last_answer == EPOCH + account.now


def test_failures_in_transport_have_an_example() -> None:
    account = Account()
    facts = account.hear(RESET, 10)
    assert (facts.failing, facts.failure) == (CheckTally(10, 10), FailedCall("reset", "dropped", "R-9"))
    assert facts.degraded_since == EPOCH + account.now
    facts = account.hear(answer(1), 10, every=1.0)
    assert (facts.failing, facts.degraded_since) == (None, None)


def test_a_refused_account_is_not_a_provider_out_of_reach_also_right_after_its_end() -> None:
    account = Account()
    facts = account.hear(ARREARS, 12)
    assert facts.refused_since is not None
    assert facts.refusal == FailedCall("OUT_OF_SERVICE", "in arrears", "R-7")
    assert account.health.outage.degraded
    assert (facts.failing, facts.degraded_since) == (None, None)
    facts = account.hear(answer(1))
    assert (facts.refused_since, facts.degraded_since) == (None, None)
    assert account.health.outage.degraded, "until ten answers have come"


def test_throttling_within_a_minute_is_one_spell() -> None:
    account = Account()
    assert account.hear(THROTTLED, 1, every=1.0).throttled_since == EPOCH + 1.0
    assert account.hear(THROTTLED, 3, every=50.0).throttled_since == EPOCH + 1.0
    assert account.hear(answer(1), 1, every=61.0).throttled_since is None
    assert account.hear(THROTTLED, 1, every=1.0).throttled_since == EPOCH + account.now


def test_checks_that_were_not_carried_out_do_not_count() -> None:
    account = Account()
    account.hear(RESET, 9)
    assert account.hear(THROTTLED, 5).failing is None
    assert account.hear(RESET).failing == CheckTally(10, 10)
