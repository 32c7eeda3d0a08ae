"""A finding: one thing that is wrong now, as facts. `texts` puts it into words.

Every place that shows the state of the system shows these findings: `/v1/status`, `precall status`, `/readyz`,
`precall_finding`, the console and the notifications. None of them judges on its own.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class Severity(StrEnum):
    """How bad a finding is."""

    CRITICAL = "critical"
    """Dispatchers get wrong routes, or will soon."""
    WARNING = "warning"
    """Something needs attention; dispatchers get right routes."""


class Verdict(StrEnum):
    """The state of the system in one word."""

    FINE = "fine"
    DEGRADED = "degraded"
    """There are warnings."""
    MISLEADING = "misleading"
    """There is a critical finding."""


class FindingCode(StrEnum):
    """What can be wrong. Each code has its texts, and a section of the runbook with that anchor. Codes never change."""

    PROVIDER_FAILING = "provider_failing"
    PROVIDER_OUT_OF_REACH = "provider_out_of_reach"
    ACCOUNT_REFUSED = "account_refused"
    THROTTLED = "throttled"
    BRAKE_ENGAGED = "brake_engaged"
    BRAKE_ORDERED = "brake_ordered"
    POOL_IN_TROUBLE = "pool_in_trouble"
    PAUSED = "paused"
    DATABASE_DOWN = "database_down"
    BUDGET_SHORT = "budget_short"
    DIALS_STALE = "dials_stale"
    ROUTES_OLD = "routes_old"
    LOOP_LATE = "loop_late"
    NOT_LEADING = "not_leading"
    SOURCE_FAILING = "source_failing"
    REMOVALS_REFUSED = "removals_refused"
    QUEUE_FAILING = "queue_failing"
    NUMBERS_UNUSABLE = "numbers_unusable"
    CALLS_DISAGREE = "calls_disagree"
    CERTIFICATE_ENDING = "certificate_ending"
    RELOAD_FAILED = "reload_failed"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong.

    `pool_key` is the pool it concerns, "" if none or all. `since` is in Unix seconds. `facts` fill in the texts:
    counts, seconds, shares, and `request_id` or `error` of the provider where there is one; never a phone number or a
    secret. Within one list of findings, code and pool are unique.
    """

    code: FindingCode
    severity: Severity
    since: float
    pool_key: str = ""
    facts: Mapping[str, str | int | float] = field(default_factory=dict)

    @property
    def key(self) -> tuple[FindingCode, str]:
        """What tells this finding from the others, and is the same while it lasts."""
        return self.code, self.pool_key


def verdict(findings: Iterable[Finding]) -> Verdict:
    """Return the state of a system with these findings."""
    severities = {finding.severity for finding in findings}
    if Severity.CRITICAL in severities:
        return Verdict.MISLEADING
    return Verdict.DEGRADED if severities else Verdict.FINE
