"""What is wrong, by the facts. This is the only place that decides so."""

from collections.abc import Iterator
from itertools import chain

from precall.core.model import State
from precall.core.orders import OrderKind
from precall.core.role import Role
from precall.core.status.facts import (
    Examples,
    FailedCall,
    FreshnessFacts,
    PoolFacts,
    ProcessFacts,
    ProviderFacts,
    QueueFacts,
    SourceFacts,
    StatusFacts,
    StoreFacts,
)
from precall.core.status.finding import Finding, FindingCode, Severity

CRITICAL = frozenset(
    {
        FindingCode.PROVIDER_FAILING,
        FindingCode.PROVIDER_OUT_OF_REACH,
        FindingCode.ACCOUNT_REFUSED,
        FindingCode.BRAKE_ENGAGED,
        FindingCode.DATABASE_DOWN,
    }
)
"""Dispatchers are misled: routes are not checked, calls are held that should not be, or changes reach nobody who reads
the database."""

TROUBLED = (State.TEMPORARY, State.FALLBACK, State.BLOCKED)
TROUBLE_BEGINS, TROUBLE_ENDS = 0.25, 0.2
"""Share of a pool's bindings in trouble. It ends lower, so that it does not flap at the border."""
TROUBLE_LEAST = 10
"""Bindings in trouble below which a pool is not."""
THROTTLED_FOR = 60.0
"""Seconds of throttling that are normal while the rate is found."""
THROTTLED_TO = 0.9
"""Share of the configured rate above which throttling does no harm."""
OLD = 2.0
"""How many times the limit the oldest route may be, as in the alert PrecallOldestRouteTooOld."""
CERTIFICATE_LEFT = 14 * 86400.0
"""Seconds before its end from which a certificate should have been renewed."""

Fact = str | int | float
_ORDER = {code: place for place, code in enumerate(FindingCode)}


def findings(facts: StatusFacts, now: float) -> list[Finding]:
    """Return what is wrong at `now` (Unix seconds), the critical findings first."""
    found = chain(
        _of_provider(facts.provider, facts.bindings, now),
        *(_of_pool(pool, facts) for pool in facts.pools),
        _of_orders(facts),
        _of_store(facts.store),
        _of_freshness(facts.freshness, facts.provider, facts.bindings),
        _of_process(facts.process, facts.role, now),
        _of_source(facts.source),
        _of_queues(facts.queues),
        _of_bindings(FindingCode.NUMBERS_UNUSABLE, facts.unusable),
        _of_bindings(FindingCode.CALLS_DISAGREE, facts.disagreeing),
    )
    judged = (
        Finding(code, _severity(code), _since(facts, (code, pool_key), since, now), pool_key, about)
        for code, pool_key, since, about in found
    )
    return sorted(
        judged, key=lambda one: (one.severity is not Severity.CRITICAL, _ORDER[one.code], one.pool_key)
    )


Judged = Iterator[tuple[FindingCode, str, float | None, dict[str, Fact]]]
"""Code, pool, since when if that is known, and the facts."""


def _severity(code: FindingCode) -> Severity:
    return Severity.CRITICAL if code in CRITICAL else Severity.WARNING


def _since(facts: StatusFacts, key: tuple[FindingCode, str], since: float | None, now: float) -> float:
    return since if since is not None else facts.known.get(key, now)


def _of_provider(provider: ProviderFacts, bindings: int, now: float) -> Judged:
    if provider.failing is not None:
        yield (
            FindingCode.PROVIDER_FAILING,
            "",
            None,
            {
                "failures": provider.failing.failures,
                "checks": provider.failing.checks,
                **_said(provider.failure),
            },
        )
    if provider.refused_since is not None:
        yield FindingCode.ACCOUNT_REFUSED, "", provider.refused_since, _said(provider.refusal)
    elif provider.degraded_since is not None:
        yield (
            FindingCode.PROVIDER_OUT_OF_REACH,
            "",
            provider.degraded_since,
            {
                "failures": provider.tally.failures,
                "checks": provider.tally.checks,
                **_said(provider.failure),
            },
        )
    throttled, enough = provider.throttled_since, THROTTLED_TO * provider.rate_configured
    if throttled is not None and now - throttled >= THROTTLED_FOR and provider.rate < enough:
        yield (
            FindingCode.THROTTLED,
            "",
            throttled,
            {
                "rate": provider.rate,
                "rate_configured": provider.rate_configured,
                "bindings": bindings,
            },
        )


def _said(call: FailedCall) -> dict[str, Fact]:
    named = {"error": call.error, "detail": call.detail, "request_id": call.request_id}
    return {name: value for name, value in named.items() if value}


def _of_pool(pool: PoolFacts, facts: StatusFacts) -> Judged:
    brake = pool.brake
    if brake.engaged_since is not None and not brake.ordered:
        yield (
            FindingCode.BRAKE_ENGAGED,
            pool.pool_key,
            brake.engaged_since,
            {
                "used": brake.used,
                "cap": brake.cap,
                "held": brake.held,
                "window": brake.window,
            },
        )
    troubled = sum(pool.states.get(state, 0) for state in TROUBLED)
    known = (FindingCode.POOL_IN_TROUBLE, pool.pool_key) in facts.known
    least = (TROUBLE_ENDS if known else TROUBLE_BEGINS) * pool.bindings
    if troubled >= TROUBLE_LEAST and troubled >= least:
        yield (
            FindingCode.POOL_IN_TROUBLE,
            pool.pool_key,
            None,
            {
                "bindings": pool.bindings,
                "share": troubled / pool.bindings,
                **{state: pool.share(state) for state in TROUBLED},
            },
        )


def _of_orders(facts: StatusFacts) -> Judged:
    for order in facts.orders:
        if order.kind is OrderKind.PAUSE:
            yield FindingCode.PAUSED, order.pool_key, order.at, {}
        elif order.kind is OrderKind.BRAKE:
            yield FindingCode.BRAKE_ORDERED, order.pool_key, order.at, {}


def _of_store(store: StoreFacts) -> Judged:
    if store.down_since is not None:
        yield (
            FindingCode.DATABASE_DOWN,
            "",
            store.down_since,
            {"pending": store.pending, "error": store.error},
        )


def _of_freshness(freshness: FreshnessFacts, provider: ProviderFacts, bindings: int) -> Judged:
    rate: dict[str, Fact] = {"rate": provider.rate, "bindings": bindings}
    if freshness.short:
        yield (
            FindingCode.BUDGET_SHORT,
            "",
            None,
            rate
            | {
                "rate_configured": provider.rate_configured,
                "rate_needed": freshness.rate_needed,
                "longest": freshness.longest,
                "max_age": freshness.max_age,
            },
        )
    if freshness.stale_share is not None:
        yield (
            FindingCode.DIALS_STALE,
            "",
            None,
            rate
            | {
                "share": freshness.stale_share,
                "seconds": freshness.window,
                "dial_rate": freshness.dial_rate,
            },
        )
    if freshness.oldest > OLD * freshness.limit > 0:
        yield FindingCode.ROUTES_OLD, "", None, rate | {"oldest": freshness.oldest, "limit": freshness.limit}


def _of_process(process: ProcessFacts, role: Role, now: float) -> Judged:
    if process.lag is not None:
        yield FindingCode.LOOP_LATE, "", None, {"lag": process.lag}
    if role is not Role.LEADING:
        yield FindingCode.NOT_LEADING, "", None, {}
    ends = process.certificate_ends
    if ends is not None and ends - now < CERTIFICATE_LEFT:
        left = max(0.0, ends - now)
        yield FindingCode.CERTIFICATE_ENDING, "", None, {"left": left, "file": process.certificate_file}
    if process.reload_failed_at is not None:
        yield (
            FindingCode.RELOAD_FAILED,
            "",
            process.reload_failed_at,
            {
                "mistakes": process.reload_mistakes,
                "error": process.reload_error,
            },
        )


def _of_source(source: SourceFacts | None) -> Judged:
    if source is None:
        return
    if source.error:
        yield FindingCode.SOURCE_FAILING, "", None, {"error": source.error}
    if source.guard:
        yield FindingCode.REMOVALS_REFUSED, "", None, {"withheld": source.withheld, "guard": source.guard}


def _of_queues(queues: tuple[QueueFacts, ...]) -> Judged:
    if queues:
        kinds = ", ".join(queue.kind for queue in queues)
        yield FindingCode.QUEUE_FAILING, "", None, {"queues": kinds, "error": queues[0].error}


def _of_bindings(code: FindingCode, examples: Examples) -> Judged:
    if examples.count:
        ids = {"first": examples.subs_ids[0]} if examples.subs_ids else {}
        yield code, "", None, {"bindings": examples.count, "examples": ", ".join(examples.subs_ids), **ids}
