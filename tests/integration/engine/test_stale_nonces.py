"""Replies that reject a nonce as used cost one call each and nothing else, even at a rate that leaves no budget for
retries.
"""

import time
from dataclasses import dataclass, field

import pytest

from precall.config.schema import ProviderConfig
from precall.core.limits.quota import PROBE_EVERY, Priority, Quota
from precall.core.model import Failure, NonAnswer
from precall.engine.provider_health import ProviderHealth
from precall.provider import Credential, Credentials, Provider
from precall.simulator import Scenario, Simulator
from precall.telemetry.metrics import Metrics
from tests.support.builders import binding

RATE, TICK = 60.0, 0.05


@dataclass
class Run:
    """Checks of one binding, as many as the budget allows, on a clock that is moved by hand."""

    provider: Provider
    now: float = 0.0
    answers: int = 0
    opened: int = 0
    stale: int = 0
    quota: Quota = field(default_factory=lambda: Quota(RATE, RATE / 4, 0.0))

    def __post_init__(self) -> None:
        self.standing = ProviderHealth(self.quota, Metrics(), lambda: self.now, ("QueryCallStatus",))

    async def go(self, seconds: float) -> None:
        for _ in range(round(seconds / TICK)):
            self.now += TICK
            while self.standing.may_call(self.now):
                self.quota.spend(self.now, Priority.BACKGROUND)
                asked = await self.provider.query_binding(
                    binding(), again=lambda: self.quota.spend(self.now, Priority.BACKGROUND)
                )
                before = self.standing.circuit.is_open
                self.standing.learn(asked.reply, asked.seconds, self.now)
                self.opened += self.standing.circuit.is_open and not before
                self.stale += isinstance(asked.reply, NonAnswer) and asked.reply.failure is Failure.STALE
                self.answers += not isinstance(asked.reply, NonAnswer)


def scenario(share: float) -> Scenario:
    facts = binding()
    known = {"subs_id": facts.subs_id, "pool_key": facts.pool_key, "number_x": facts.number_x, "status": 1}
    error = {"kind": "error", "code": "SignatureNonceUsed", "http_status": 400, "for": "0s", "share": share}
    return Scenario.model_validate({"binding": [known | {"number_a": facts.number_a}], "fault": [error]})


def provider(url: str) -> Provider:
    nonces = iter(range(1_000_000))
    return Provider(
        ProviderConfig(endpoint=url, call_detail_endpoint=url),
        Credentials(Credential("demo", "demo-secret")),
        wall=time.time,
        monotonic=lambda: 0.0,
        nonce=lambda: f"nonce-{next(nonces)}",
    )


@pytest.mark.parametrize("share", [0.025, 0.3])
async def test_occasional_stale_nonces_do_not_open_the_circuit(share: float) -> None:
    seconds = 12.0
    simulator = Simulator(scenario(share))
    async with simulator.running() as url:
        asking = provider(url)
        await asking.start()
        run = Run(asking)
        await run.go(seconds)
        await asking.close()
    used = simulator.calls_received["QueryCallStatus"] / (RATE * seconds)
    assert used >= 0.95
    assert used <= 1.0 + run.quota.burst / (RATE * seconds)
    assert run.answers >= (1 - share) * 0.93 * RATE * seconds
    assert run.stale > 0
    assert run.opened == 0
    assert not run.standing.outage.degraded


async def test_an_account_with_only_stale_nonces_is_just_probed() -> None:
    simulator = Simulator(scenario(1.0))
    async with simulator.running() as url:
        asking = provider(url)
        await asking.start()
        run = Run(asking)
        await run.go(7.0)
        assert run.standing.circuit.is_open
        made = simulator.calls_received["QueryCallStatus"]
        await run.go(3 * PROBE_EVERY)
        assert simulator.calls_received["QueryCallStatus"] - made <= 2 * 5
        simulator.service.faults.clear()
        await run.go(PROBE_EVERY + 1.0)
        await asking.close()
    assert (run.opened, run.standing.circuit.is_open) == (1, False)
