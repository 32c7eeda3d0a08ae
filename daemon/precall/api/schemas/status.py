"""The state of the system. Times are RFC 3339 in UTC, "" for none; rates are in calls per second."""

from typing import Annotated, Any

from pydantic import Field

from precall.api.schemas.fields import OPTIONAL, ResponseModel, moment
from precall.api.schemas.orders import OrderAnswer
from precall.core.model import Promise, State
from precall.core.role import Member, Role
from precall.core.status.facts import (
    FailedCall,
    FreshnessFacts,
    PoolFacts,
    ProviderFacts,
    SourceFacts,
    StatusFacts,
    StoreFacts,
)
from precall.core.status.finding import Finding, FindingCode, Severity, Verdict
from precall.core.status.texts import Language, describe


class FindingAnswer(ResponseModel):
    """One thing that is wrong. Its texts are in the language of the request (`Accept-Language`: `en` or `zh`)."""

    code: FindingCode
    severity: Severity
    since: str
    pool_key: Annotated[str, Field(description='The pool that it concerns, "" for none or all.')]
    summary: str
    cause: str
    remedy: Annotated[str, Field(description="One command, ready to paste. Prose follows after `#`.")]
    runbook: Annotated[str, Field(description="Where the runbook tells more: a path of this daemon.")]


class FailedCallAnswer(ResponseModel):
    """A failed call: a code, its meaning, and the RequestId; each "" if there is none."""

    error: str
    detail: str
    request_id: str


class DaemonState(ResponseModel):
    """The daemon that answers. `late` is the delay of its check loop in seconds, there only while it is late."""

    version: str
    role: Role
    at: Annotated[str, Field(description="The time of this answer by the clock of the daemon.")]
    started_at: str
    in_flight: Annotated[int, Field(description="Calls of the provider in flight.")]
    late: float = OPTIONAL


class ProviderState(ResponseModel):
    """The provider and the account. `checks` and `failures` count the last 30 s.

    `failure` is the latest call that failed in transport, `refusal` the latest refusal of the account.
    `degraded_since` is there while most checks fail, `refused_since` while the account is refused.
    """

    rate: float
    rate_configured: float
    last_answer: str
    checks: int
    failures: int
    failing: bool
    degraded_since: str
    refused_since: str
    throttled_since: str
    failure: FailedCallAnswer
    refusal: FailedCallAnswer


class StoreState(ResponseModel):
    """The database. `down_since` is "" while it takes writes, and `pending` rows wait for it."""

    down_since: str
    error: str
    pending: int


class TableState(ResponseModel):
    """The routing table, without ended bindings. Ages are in seconds; `max_age` and `promise` are those in force.

    `longest_age` is the age that no route exceeds at the rate allowed now, `age_limit` the one that none should.
    """

    bindings: int
    states: dict[State, int]
    promise: Promise
    max_age: float
    oldest_age: float
    longest_age: float
    age_limit: float
    stale_share: float = OPTIONAL


class BrakeState(ResponseModel):
    """The exposure brake of a pool: `used` of `cap` bindings turned within `window` seconds, `held` wait.

    `engaged_since` is there while the cap is reached, `ordered` while an operator has engaged the brake.
    """

    engaged_since: str
    ordered: bool
    used: int
    cap: int
    held: int
    window: float


class PoolState(ResponseModel):
    """A pool with active bindings.

    `oldest_age` is the age of its oldest route in seconds when the table was last swept, absent before the first sweep.
    """

    pool_key: str
    bindings: int
    states: dict[State, int]
    paused: bool
    brake: BrakeState
    oldest_age: float = OPTIONAL


class SourceState(ResponseModel):
    """The sync with the customer's database. `every` is in seconds."""

    configured: bool
    synced_at: str
    every: float
    error: str
    removals_refused: str
    withheld: int


class MemberState(ResponseModel):
    """A daemon on this database, and its last sign of life. `name` is its host and process id."""

    name: str
    role: Role
    version: str
    started_at: str
    seen_at: str


class StatusAnswer(ResponseModel):
    """The state of the system. `misleading`: dispatchers get wrong routes, or will soon."""

    verdict: Verdict
    findings: Annotated[list[FindingAnswer], Field(description="What is wrong, the critical findings first.")]
    daemon: DaemonState
    provider: ProviderState
    store: StoreState
    table: TableState
    pools: list[PoolState]
    orders: Annotated[list[OrderAnswer], Field(description="Orders in force, newest first.")]
    source: SourceState
    members: list[MemberState]


def encode_finding(finding: Finding, language: Language) -> dict[str, Any]:
    """Return a finding in words."""
    text = describe(finding, language)
    return {
        "code": finding.code,
        "severity": finding.severity,
        "since": moment(finding.since),
        "pool_key": finding.pool_key,
        "summary": text.summary,
        "cause": text.cause,
        "remedy": text.remedy,
        "runbook": f"/runbook#{finding.code}",
    }


def encode_facts(facts: StatusFacts) -> dict[str, Any]:
    """Return all but the findings, the daemon, the orders and the members."""
    return {
        "provider": _provider(facts.provider),
        "store": _store(facts.store),
        "table": _table(facts.freshness, facts),
        "pools": [_pool(pool) for pool in facts.pools],
        "source": _source(facts.source),
    }


def encode_member(member: Member) -> dict[str, Any]:
    """Return a daemon with its last sign of life."""
    return {
        "name": member.name,
        "role": member.role,
        "version": member.version,
        "started_at": moment(member.started_at),
        "seen_at": moment(member.seen_at),
    }


def _provider(provider: ProviderFacts) -> dict[str, Any]:
    return {
        "rate": round(provider.rate, 3),
        "rate_configured": provider.rate_configured,
        "last_answer": moment(provider.last_answer or 0),
        "checks": provider.tally.checks,
        "failures": provider.tally.failures,
        "failing": provider.failing is not None,
        "degraded_since": moment(provider.degraded_since or 0),
        "refused_since": moment(provider.refused_since or 0),
        "throttled_since": moment(provider.throttled_since or 0),
        "failure": _failed(provider.failure),
        "refusal": _failed(provider.refusal),
    }


def _failed(call: FailedCall) -> dict[str, str]:
    return {"error": call.error, "detail": call.detail, "request_id": call.request_id}


def _store(store: StoreFacts) -> dict[str, Any]:
    down = store.down_since
    error = store.error if down is not None else ""
    return {"down_since": moment(down or 0), "error": error, "pending": store.pending}


def _table(freshness: FreshnessFacts, facts: StatusFacts) -> dict[str, Any]:
    stale = {} if freshness.stale_share is None else {"stale_share": round(freshness.stale_share, 4)}
    return {
        "bindings": facts.bindings,
        "states": {str(state): count for state, count in facts.states.items() if state is not State.EXPIRED},
        "promise": freshness.promise,
        "max_age": freshness.max_age,
        "oldest_age": round(freshness.oldest, 3),
        "longest_age": round(freshness.longest, 3),
        "age_limit": round(freshness.limit, 3),
        **stale,
    }


def _pool(pool: PoolFacts) -> dict[str, Any]:
    brake = pool.brake
    oldest = {} if pool.oldest is None else {"oldest_age": round(pool.oldest, 3)}
    return {
        **oldest,
        "pool_key": pool.pool_key,
        "bindings": pool.bindings,
        "states": {str(state): count for state, count in pool.states.items()},
        "paused": pool.paused,
        "brake": {
            "engaged_since": moment(brake.engaged_since or 0),
            "ordered": brake.ordered,
            "used": brake.used,
            "cap": brake.cap,
            "held": brake.held,
            "window": brake.window,
        },
    }


def _source(source: SourceFacts | None) -> dict[str, Any]:
    known = source or SourceFacts()
    return {
        "configured": source is not None,
        "synced_at": moment(known.synced_at or 0),
        "every": known.every,
        "error": known.error,
        "removals_refused": known.guard,
        "withheld": known.withheld,
    }
