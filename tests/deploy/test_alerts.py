"""Alerts, their tests and the runbook agree, and promtool accepts them."""

import re
import subprocess
from typing import Any

import pytest
import yaml

from precall.api import runbook
from precall.core.status.finding import FindingCode
from tests.acceptance.test_cli import PROJECT
from tests.deploy.prometheus import DURATION, FILES, RULES, scaled
from tests.unit.test_docs import families

needs_promtool = pytest.mark.needs("prometheus")
RUNBOOK = (PROJECT / "deploy" / "runbook.md").read_text(encoding="utf-8")
CASES = yaml.safe_load((FILES / "alerts.test.yml").read_text(encoding="utf-8"))["tests"]


def alerts() -> dict[str, dict[str, Any]]:
    groups = yaml.safe_load((FILES / "alerts.yml").read_text(encoding="utf-8"))["groups"]
    return {rule["alert"]: rule for group in groups for rule in group["rules"]}


def sections() -> dict[str, str]:
    """The sections of the runbook by their headings."""
    parts = re.split(r"^## (.+)\n", RUNBOOK, flags=re.MULTILINE)[1:]
    return dict(zip(parts[::2], parts[1::2], strict=True))


def test_alerts_findings_and_runbook_sections_correspond() -> None:
    found = sections()
    further = {anchor for text in found.values() for anchor in re.findall(r'<a id="(\w+)"></a>', text)}
    assert set(alerts()) <= found.keys()
    assert (found.keys() - alerts().keys()) | further == set(FindingCode)
    assert not (found.keys() - alerts().keys()) & further
    for link in re.findall(r"\]\(#(\w+)\)", RUNBOOK):
        assert link in map(str.lower, found)


@pytest.mark.parametrize("name", sections())
def test_every_section_says_what_it_means_and_what_to_do(name: str) -> None:
    text = sections()[name]
    told = re.findall(r"^\*\*([A-Z][a-z ]+)\.\*\* ", text, re.MULTILINE)
    of_a_finding = name in set(FindingCode) or "<a id=" in text
    assert told == ["Means", *(["Dispatchers"] if of_a_finding else []), "Look at", "Do"]


def test_the_page_that_is_served_has_an_anchor_for_each_alert_and_finding() -> None:
    page = runbook.page(runbook.text()).decode()
    anchors = re.findall(r'\bid="([^"]+)"', page)
    assert len(set(anchors)) == len(anchors)
    assert {*map(str.lower, alerts()), *FindingCode} <= set(anchors)
    for link in re.findall(r'href="([^"]+)"', page):
        assert link.removeprefix("#") in anchors


def test_every_alert_has_severity_texts_and_runbook_url() -> None:
    for name, alert in alerts().items():
        assert alert["labels"]["severity"] in ("critical", "warning"), name
        assert alert["annotations"].keys() == {"summary", "description", "runbook_url"}, name
        url = alert["annotations"]["runbook_url"]
        assert re.fullmatch(rf".*http://{{{{.*}}}}/runbook(?:{{{{.*}}}})?#{name.lower()}", url), url


def test_every_alert_is_tested_silent_and_firing() -> None:
    tried: dict[str, set[bool]] = {}
    for case in CASES:
        for check in case["alert_rule_test"]:
            tried.setdefault(check["alertname"], set()).add(bool(check["exp_alerts"]))
    assert tried == {name: {True, False} for name in alerts()}


def test_rules_use_only_existing_metrics() -> None:
    known = families()
    known |= {f"{name}_bucket" for name in known}
    for file in RULES:
        expressions = [
            rule["expr"]
            for group in yaml.safe_load(file.read_text(encoding="utf-8"))["groups"]
            for rule in group["rules"]
        ]
        named = set(re.findall(r"(?<![:\w])precall_\w+(?!:)\b", " ".join(expressions)))
        assert {name for name in named if ":" not in name} <= known


def test_scaling_divides_every_duration_and_changes_nothing_else() -> None:
    assert scaled("for: 10m\nexpr: rate(a_5m[1m] offset 1d) > 10") == (
        "for: 30000ms\nexpr: rate(a_5m[3000ms] offset 4320000ms) > 10"
    )
    for file in RULES:
        text = file.read_text(encoding="utf-8")
        assert DURATION.sub("", scaled(text).replace("ms", "m")) == DURATION.sub("", text)


def promtool(*args: object, text: str = "") -> str:
    done = subprocess.run(
        ["promtool", *map(str, args)],
        input=text,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        cwd=FILES,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@needs_promtool
def test_promtool_accepts_the_configuration_and_the_rules() -> None:
    promtool("check", "config", "prometheus.yml")
    assert "rules found" in promtool("check", "rules", *(file.name for file in RULES))


@needs_promtool
def test_promtool_tests_of_the_alerts_pass() -> None:
    assert "SUCCESS" in promtool("test", "rules", "alerts.test.yml")
