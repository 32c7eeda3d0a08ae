"""Findings for tests, and words for them that say no more than a test needs."""

from typing import Any

from precall.core.status.finding import Finding, FindingCode, Severity
from precall.core.status.texts import FindingText, Language


def finding(
    code: FindingCode = FindingCode.BRAKE_ENGAGED,
    pool_key: str = "FC1",
    *,
    since: float = 1000.0,
    severity: Severity = Severity.CRITICAL,
    **facts: Any,
) -> Finding:
    """A finding; the brake of a pool is engaged unless told otherwise."""
    return Finding(code, severity, since, pool_key, facts)


def plain_words(finding: Finding, language: Language) -> FindingText:
    """Words that repeat what they are given."""
    facts = " ".join(f"{name}={value}" for name, value in finding.facts.items())
    return FindingText(
        f"{finding.code} {language} {finding.pool_key}".strip(),
        f"cause of {finding.code} {facts}".strip(),
        f"precall fix --pool-key {finding.pool_key}" if finding.pool_key else "",
    )
