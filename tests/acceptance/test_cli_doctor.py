"""`precall doctor` on the sources of a binding's status: which one works, and why."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from tests.acceptance.test_cli import config_file, precall, serving

SUBSTITUTES = ("QuerySubscriptionDetail", "QuerySecretNoDetail")


def examined(folder: Path, chosen: str, delisted: Sequence[str]) -> tuple[int, dict[str, dict[str, Any]]]:
    """Exit code and findings by name, with these actions unknown to the provider."""
    scenario = folder / "scenario.toml"
    scenario.write_text(f"delisted = {json.dumps(list(delisted))}\n")
    with serving(folder, "simulate", "--listen", "127.0.0.1:0", "--scenario", scenario) as simulator:
        config = config_file(folder, simulator.url("simulator"), more=f'status_source = "{chosen}"')
        result = precall("doctor", "--config", config, "--json")
    return result.returncode, {finding["what"]: finding for finding in json.loads(result.stdout)}


def test_a_delisted_action_names_the_source_that_works(tmp_path: Path) -> None:
    code, findings = examined(tmp_path, "call_status", ["QueryCallStatus"])
    assert code == 1
    source = findings["status source"]
    assert source["verdict"] == "fail"
    assert source["found"] == (
        "call_status does not work (QueryCallStatus: InvalidApi.NotFound); subscription_detail works"
    )
    assert 'provider.status_source = "subscription_detail"' in source["fix"]
    assert "never a temporary number" in source["fix"]
    assert "quota" not in findings


def test_the_substitute_is_probed_where_it_is_chosen(tmp_path: Path) -> None:
    code, findings = examined(tmp_path, "subscription_detail", ["QueryCallStatus"])
    assert code == 0, findings
    for what in (*SUBSTITUTES, "quota", "status source"):
        assert findings[what]["verdict"] == "ok"
    assert "QueryCallStatus" not in findings
    assert findings["status source"]["found"].startswith("subscription_detail works; call_status does not")
    assert not findings["status source"]["fix"]


@pytest.mark.parametrize(
    ("chosen", "delisted", "verdict", "fix"),
    [
        ("subscription_detail", [], "ok", "would also give temporary numbers"),
        ("subscription_detail", ["QuerySecretNoDetail"], "fail", 'provider.status_source = "call_status"'),
        ("call_status", ["QueryCallStatus", *SUBSTITUTES], "fail", "correct what is named above"),
        ("call_status", SUBSTITUTES, "ok", ""),
    ],
)
def test_the_better_source_is_named(
    tmp_path: Path, chosen: str, delisted: list[str], verdict: str, fix: str
) -> None:
    _, findings = examined(tmp_path, chosen, delisted)
    source = findings["status source"]
    assert source["verdict"] == verdict
    assert fix in source["fix"]
    assert bool(fix) is bool(source["fix"])


def test_a_missing_right_to_a_binding_is_not_taken_for_a_wrong_id(tmp_path: Path) -> None:
    scenario = tmp_path / "scenario.toml"
    scenario.write_text('[[fault]]\nkind = "error"\nsubs_id = "7"\ncode = "Forbidden.RAM"\n')
    with serving(tmp_path, "simulate", "--listen", "127.0.0.1:0", "--scenario", scenario) as simulator:
        config = config_file(tmp_path, simulator.url("simulator"))
        result = precall("doctor", "--config", config, "--json", "--subs-id", "7", "--pool-key", "FC1")
    [twice] = [finding for finding in json.loads(result.stdout) if finding["what"] == "asked twice"]
    assert (twice["verdict"], twice["found"]) == ("warn", "no answer (Forbidden.RAM)")
    assert twice["fix"] == "grant it in RAM"
