"""`precall replay`: differences that may be chance are marked as such."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from precall.cli import app
from precall.cli.replay import doubts
from precall.core.planning.replay import BASELINE, POLICIES, PolicyScore
from precall.core.planning.sample import DialRecord, LogEvent

_, OTHER, PLANNER = POLICIES


def score(policy: str, dials: int, wrong: float) -> PolicyScore:
    return PolicyScore(policy, dials, wrong, 60.0, 300.0)


@pytest.mark.parametrize(("dials", "doubtful"), [(40, True), (400, True), (40_000, False)])
def test_the_same_shares_are_told_apart_by_enough_dials(dials: int, *, doubtful: bool) -> None:
    scores = [(1.0, score(BASELINE, dials, 0.05)), (1.0, score(PLANNER, dials, 0.03))]
    lines = doubts(scores)
    assert bool(lines) == doubtful
    if doubtful:
        assert lines[0].startswith(
            f"{dials:,} dials are too few to tell {PLANNER} from {BASELINE} at 1 calls/s"
        )


def test_each_rate_is_judged_by_itself_and_equal_shares_stay_in_doubt() -> None:
    scores = [
        (1.0, score(BASELINE, 10_000, 0.05)),
        (1.0, score(OTHER, 10_000, 0.05)),
        (1.0, score(PLANNER, 10_000, 0.02)),
        (2.0, score(BASELINE, 10_000, 0.03)),
        (2.0, score(OTHER, 10_000, 0.01)),
        (2.0, score(PLANNER, 10_000, 0.01)),
    ]
    [line] = doubts(scores)
    assert f"tell {OTHER} from {BASELINE} at 1 calls/s" in line


def test_a_short_log_is_replayed_with_a_warning_on_standard_error(tmp_path: Path) -> None:
    events = [LogEvent.ADD, *([LogEvent.ANSWER, LogEvent.DIAL] * 20)]
    lines = [
        json.dumps(DialRecord("b1", "FC1", "x1", kind, "", 100.0 + n, verified=False).plain())
        for n, kind in enumerate(events)
    ]
    log = tmp_path / "dials.jsonl"
    log.write_text("\n".join(lines))
    result = CliRunner().invoke(app, ["replay", str(log), "--json"])
    assert result.exit_code == 0, result.output
    assert [one["policy"] for one in json.loads(result.stdout)] == list(POLICIES)
    assert "dials are too few to tell" in result.stderr
