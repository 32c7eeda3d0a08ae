"""The state of the system on one screen, in both languages, at any size."""

from typing import Any

import pytest
from rich.cells import cell_len

from precall.cli.status_view import StatusView
from precall.core.status.texts import Language

NOW = "2026-01-02T03:04:05.000Z"
EARLIER = "2026-01-02T03:00:05.000Z"
PLAIN_BRAKE = {"engaged_since": "", "ordered": False, "used": 0, "cap": 20, "held": 0, "window": 600.0}


def finding(code: str, severity: str = "warning", pool_key: str = "") -> dict[str, Any]:
    return {
        "code": code,
        "severity": severity,
        "since": EARLIER,
        "pool_key": pool_key,
        "summary": f"A long sentence about {code}, with figures such as 12 of 34, that has to be wrapped somewhere.",
        "cause": "The provider said something (RequestId 7A8B9C0D-1234-5678-9ABC-DEF012345678).",
        "remedy": f"precall resume --pool-key {pool_key or 'FC1'}  # once the reason is gone, and not before that",
        "runbook": f"/runbook#{code}",
    }


def pool(pool_key: str, bindings: int = 1000, **states: int) -> dict[str, Any]:
    states = {"normal": bindings} | states
    return {
        "pool_key": pool_key,
        "bindings": bindings,
        "states": states,
        "paused": False,
        "brake": PLAIN_BRAKE,
    }


def status(*findings: dict[str, Any], **parts: Any) -> dict[str, Any]:
    severities = {one["severity"] for one in findings}
    return {
        "verdict": "misleading" if "critical" in severities else "degraded" if findings else "fine",
        "findings": list(findings),
        "daemon": {"version": "1", "role": "leading", "at": NOW, "started_at": EARLIER, "in_flight": 0},
        "provider": {
            "degraded_since": "",
            "refused_since": "",
            "failing": False,
            "rate": 10.0,
            "rate_configured": 20.0,
        },
        "store": {"down_since": "", "error": "", "pending": 0},
        "table": {"oldest_age": 12.0, "age_limit": 300.0},
        "pools": [pool("FC1")],
        "orders": [],
        "source": {"configured": False, "error": "", "removals_refused": ""},
        "members": [],
    } | parts


def drawn(found: dict[str, Any], language: Language = Language.EN, **size: int) -> list[str]:
    return [line.plain for line in StatusView(found, language, **size).lines()]


def test_nothing_is_wrong() -> None:
    lines = drawn(status(), width=80, height=24)
    assert lines[0] == "FINE: nothing is wrong"
    assert lines[2:] == [
        "provider  answers, 10/s of 20/s          account   accepted",
        "database  takes writes, 0 rows wait      leader    this daemon, up 4 min",
        "brake     open                           pauses    none",
        "budget    oldest 12 s of 5 min           source    none",
        "",
        "pool  bindings      normal   temporary    fallback     blocked  unverified",
        "FC1      1,000       1,000           0           0           0           0",
    ]


def test_each_finding_has_its_cause_and_remedy_whole_when_piped() -> None:
    one = finding("paused", pool_key="FC1")
    lines = drawn(status(one))
    assert lines[2:6] == [
        "warning: paused  for 4 min",
        f"  {one['summary']}",
        f"  cause  {one['cause']}",
        f"  do     {one['remedy']}",
    ]


@pytest.mark.parametrize("language", Language)
@pytest.mark.parametrize(("width", "height"), [(80, 24), (60, 24), (160, 50)])
@pytest.mark.parametrize("findings", [0, 1, 2, 3, 9])
def test_it_fits_the_terminal(language: Language, width: int, height: int, findings: int) -> None:
    wrong = [finding(f"finding_{place}", "critical" if place < 2 else "warning") for place in range(findings)]
    pools = [pool(f"FC{place}", fallback=place) for place in range(30)]
    lines = drawn(status(*wrong, pools=pools), language, width=width, height=height)
    assert len(lines) < height
    assert all(cell_len(line) <= width for line in lines)
    told = "\n".join(lines)
    assert all(one["code"] in told for one in wrong[:3])


def test_the_pools_in_most_trouble_come_first() -> None:
    pools = [pool(f"FC{place:02}", fallback=place) for place in range(30)]
    lines = drawn(status(pools=pools), width=80, height=24)
    assert [line.split()[0] for line in lines if line.startswith("FC")][:2] == ["FC29", "FC28"]


@pytest.mark.parametrize(
    ("parts", "shown"),
    [
        ({"provider": {**status()["provider"], "failing": True}}, "provider  fails"),
        ({"provider": {**status()["provider"], "degraded_since": EARLIER}}, "provider  out of reach"),
        ({"provider": {**status()["provider"], "refused_since": EARLIER}}, "account   refused"),
        (
            {"store": {"down_since": EARLIER, "error": "x", "pending": 1234}},
            "takes no writes, 1,234 rows wait",
        ),
        ({"daemon": {**status()["daemon"], "role": "standby"}}, "leader    another daemon"),
        ({"source": {"configured": True, "error": "x", "removals_refused": ""}}, "source    fails"),
        (
            {"source": {"configured": True, "error": "", "removals_refused": "x"}},
            "source    removals refused",
        ),
        ({"source": {"configured": True, "error": "", "removals_refused": ""}}, "source    in step"),
        ({"pools": [pool("FC1") | {"brake": PLAIN_BRAKE | {"ordered": True}}]}, "brake     FC1 0/20"),
        ({"pools": []}, "brake     open"),
    ],
)
def test_the_strip_shows_each_part(parts: dict[str, Any], shown: str) -> None:
    assert shown in "\n".join(drawn(status(**parts)))


def test_leader_and_standbys_are_shown_with_their_last_sign_of_life() -> None:
    members = [
        {"name": "web-1/12", "role": "leading", "seen_at": NOW},
        {"name": "web-2/34", "role": "standby", "seen_at": EARLIER},
    ]
    [line] = [one for one in drawn(status(members=members), width=80, height=24) if "web-1" in one]
    assert line == "daemons   web-1/12 leading seen 0 s ago, web-2/34 standby seen 4 min ago"
    assert not any("daemons" in one for one in drawn(status(members=members[:1]), width=80, height=24))


def test_an_order_tells_who_gave_it_and_why() -> None:
    order = {"kind": "pause", "pool_key": "", "by": "night-shift", "reason": "ticket 7"}
    lines = drawn(status(finding("paused"), orders=[order]))
    assert "  by     night-shift: ticket 7" in lines
    assert "pauses    all pools" in "\n".join(lines)
    assert not any("  by  " in line for line in drawn(status(finding("paused"), orders=[order | {"by": ""}])))


def test_chinese_is_wrapped_by_columns_and_commands_are_not_torn() -> None:
    one = finding("paused") | {
        "summary": "供应商正在限流" * 20,
        "remedy": "precall resume --pool-key FC1  # 说明" * 3,
    }
    lines = drawn(status(one), Language.ZH, width=40)
    assert all(cell_len(line) <= 40 for line in lines)
    assert any("--pool-key" in line for line in lines)
