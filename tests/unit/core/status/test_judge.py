"""Which facts are findings, since when, and how bad they are."""

from dataclasses import replace
from string import Formatter
from typing import Any

import pytest

from precall.core.limits.recent_checks import CheckTally
from precall.core.model import State
from precall.core.orders import OrderKind
from precall.core.role import Role
from precall.core.status.english import ENGLISH
from precall.core.status.facts import (
    BrakeFacts,
    Examples,
    FailedCall,
    FreshnessFacts,
    OrderFacts,
    PoolFacts,
    ProcessFacts,
    ProviderFacts,
    QueueFacts,
    SourceFacts,
    StatusFacts,
    StoreFacts,
)
from precall.core.status.finding import Finding, FindingCode, Severity, Verdict, verdict
from precall.core.status.judge import CERTIFICATE_LEFT, findings
from precall.core.status.texts import COMMANDS
from tests.support.builders import NOW

RESET = FailedCall("reset", "the connection was dropped before a reply", "R-1")
FINE = StatusFacts(provider=ProviderFacts(rate=10.0, rate_configured=10.0), bindings=100)
ENGAGED = BrakeFacts(used=10, cap=10, held=3, window=600.0, engaged_since=NOW - 60)

ALL_WRONG = StatusFacts(
    role=Role.STANDBY,
    bindings=100,
    provider=ProviderFacts(
        rate=1.0,
        rate_configured=10.0,
        failing=CheckTally(10, 10),
        tally=CheckTally(20, 20),
        failure=RESET,
        degraded_since=NOW - 20,
        throttled_since=NOW - 100,
    ),
    store=StoreFacts(NOW - 5, "disk full", 12),
    freshness=FreshnessFacts(
        max_age=60.0,
        longest=120.0,
        limit=60.0,
        oldest=300.0,
        short=True,
        rate_needed=20.0,
        stale_share=0.2,
        window=300.0,
    ),
    pools=(PoolFacts("FC1", 100, {State.FALLBACK: 30}, ENGAGED),),
    orders=(OrderFacts(OrderKind.PAUSE, "FC2", NOW - 9), OrderFacts(OrderKind.BRAKE, "", NOW - 8)),
    source=SourceFacts("no connection", "too many gone", 7),
    queues=(QueueFacts("SecretReport", "QueueNotExist: no such queue"),),
    unusable=Examples(2, ("1", "2")),
    disagreeing=Examples(1, ("3",)),
    process=ProcessFacts(2.0, NOW - 7, 1, "provider.rate: must be above 0", "/etc/cert.pem", NOW + 3600),
)
REFUSED = ProviderFacts(
    rate=1.0, rate_configured=1.0, refused_since=NOW - 30, refusal=RESET, degraded_since=NOW
)


def codes(facts: StatusFacts) -> list[FindingCode]:
    return [finding.code for finding in findings(facts, NOW)]


def provider(**facts: Any) -> StatusFacts:
    return replace(FINE, provider=replace(FINE.provider, **facts))


def one(facts: StatusFacts) -> Finding:
    [finding] = findings(facts, NOW)
    return finding


def test_nothing_is_wrong() -> None:
    assert findings(FINE, NOW) == []
    assert verdict([]) is Verdict.FINE


def test_every_code_has_a_rule() -> None:
    found = {*codes(ALL_WRONG), *codes(replace(FINE, provider=REFUSED))}
    assert found == set(FindingCode)


def test_every_text_gets_the_facts_that_it_tells() -> None:
    told = {"pool", "reply", "option"}
    for finding in [*findings(ALL_WRONG, NOW), *findings(replace(FINE, provider=REFUSED), NOW)]:
        texts = "".join((*ENGLISH[finding.code], COMMANDS[finding.code]))
        named = {name for _, name, _, _ in Formatter().parse(texts) if name}
        assert named <= finding.facts.keys() | told, finding.code


def test_critical_findings_come_first() -> None:
    severities = [finding.severity for finding in findings(ALL_WRONG, NOW)]
    assert severities == sorted(severities, key=list(Severity).index)
    assert verdict(findings(ALL_WRONG, NOW)) is Verdict.MISLEADING


def test_the_brake_is_critical_by_itself_and_a_warning_by_order() -> None:
    pool = PoolFacts("FC1", 100, {}, ENGAGED)
    assert one(replace(FINE, pools=(pool,))).severity is Severity.CRITICAL
    ordered = replace(
        FINE,
        pools=(replace(pool, brake=replace(ENGAGED, ordered=True)),),
        orders=(OrderFacts(OrderKind.BRAKE, "FC1", NOW - 5),),
    )
    found = one(ordered)
    assert (found.code, found.severity, found.since) == (FindingCode.BRAKE_ORDERED, Severity.WARNING, NOW - 5)
    assert verdict([found]) is Verdict.DEGRADED


def test_a_refused_account_is_not_out_of_reach() -> None:
    assert codes(replace(FINE, provider=REFUSED)) == [FindingCode.ACCOUNT_REFUSED]


@pytest.mark.parametrize(
    ("rate", "seconds", "wrong"), [(5.0, 60.0, True), (9.5, 60.0, False), (5.0, 59.0, False)]
)
def test_throttling_is_a_finding_once_it_lasts_and_costs_checks(
    rate: float, seconds: float, wrong: bool
) -> None:
    assert bool(codes(provider(rate=rate, throttled_since=NOW - seconds))) is wrong


@pytest.mark.parametrize(
    ("troubled", "bindings", "known", "wrong"),
    [
        (25, 100, False, True),
        (24, 100, False, False),
        (20, 100, True, True),
        (19, 100, True, False),
        (9, 9, False, False),
    ],
)
def test_a_pool_is_in_trouble_by_its_share(troubled: int, bindings: int, known: bool, wrong: bool) -> None:
    facts = replace(FINE, pools=(PoolFacts("FC1", bindings, {State.TEMPORARY: troubled}),))
    if known:
        facts = replace(facts, known={(FindingCode.POOL_IN_TROUBLE, "FC1"): NOW - 99})
    assert bool(codes(facts)) is wrong


def test_a_finding_that_is_known_keeps_its_moment() -> None:
    facts = replace(FINE, source=SourceFacts(error="no connection"))
    assert one(facts).since == NOW
    assert one(replace(facts, known={(FindingCode.SOURCE_FAILING, ""): NOW - 99})).since == NOW - 99


@pytest.mark.parametrize(
    ("left", "wrong"), [(CERTIFICATE_LEFT + 1, False), (CERTIFICATE_LEFT - 1, True), (-5.0, True)]
)
def test_a_certificate_is_renewed_in_time(left: float, wrong: bool) -> None:
    process = ProcessFacts(certificate_file="cert.pem", certificate_ends=NOW + left)
    assert bool(codes(replace(FINE, process=process))) is wrong


@pytest.mark.parametrize(
    ("oldest", "limit", "wrong"), [(121.0, 60.0, True), (119.0, 60.0, False), (9.0, 0.0, False)]
)
def test_routes_are_old_beyond_twice_the_limit(oldest: float, limit: float, wrong: bool) -> None:
    assert bool(codes(replace(FINE, freshness=FreshnessFacts(oldest=oldest, limit=limit)))) is wrong
