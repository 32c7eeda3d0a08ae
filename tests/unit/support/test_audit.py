"""The outcomes of `make audit`."""

import json
from typing import Any

import pytest

from tests.audit import CLEAN, UNKNOWN, VULNERABLE, verdict

GOOD: dict[str, Any] = {"name": "good", "version": "1", "vulns": []}
FLAW: dict[str, Any] = {"id": "PYSEC-1", "aliases": ["CVE-1"], "fix_versions": ["1.1"]}
BAD: dict[str, Any] = {"name": "bad", "version": "1", "vulns": [FLAW, FLAW | {"fix_versions": []}]}
SKIPPED: dict[str, Any] = {"name": "unheard-of", "skip_reason": "not found"}


@pytest.mark.parametrize(
    ("dependencies", "code", "said"),
    [
        ([GOOD, GOOD], CLEAN, "any of 2 packages"),
        ([GOOD, BAD], VULNERABLE, "bad 1: PYSEC-1, CVE-1; fixed in 1.1"),
        ([BAD, SKIPPED], VULNERABLE, "fixed in no version yet"),
        ([SKIPPED, SKIPPED], UNKNOWN, "out of reach"),
        ([], UNKNOWN, "out of reach"),
        ([GOOD, SKIPPED], UNKNOWN, "unheard-of"),
    ],
)
def test_audit_outcomes_are_distinguished(dependencies: list[Any], code: int, said: str) -> None:
    result, lines = verdict(json.dumps({"dependencies": dependencies, "fixes": []}))
    assert result == code
    assert said in "\n".join(lines)


@pytest.mark.parametrize("report", ["", "Traceback", "{}", "[]"])
def test_an_unreachable_service_is_not_a_pass(report: str) -> None:
    assert verdict(report) == (UNKNOWN, ["the advisory service is out of reach: nothing was audited"])
