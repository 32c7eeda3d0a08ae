"""The demonstration fits on the terminals people have: nothing is cut, and the latest changes are shown."""

import io
import sys
from collections import Counter

import pytest
from rich.console import Console

from precall.cli.demo import DemoTally, FailedSoFar, RouteMove
from precall.cli.demo_story import DemoCaption
from precall.cli.demo_view import Lines, Panel, commands_to_try, summary
from precall.core.model import Action
from precall.simulator import CallTally
from precall.simulator.exchange import Ending

URL = "http://127.0.0.1:46679"
CHANGES = 60
BRAKE: dict[str, object] = {
    "engaged_since": "2026-01-02T03:04:05.678Z", "ordered": False, "used": 20, "cap": 20, "held": 34, "window": 600.0,
}  # fmt: skip


def a_tally() -> DemoTally:
    """Five minutes of the demonstration."""
    calls = CallTally()
    calls.asked, calls.not_placed = 4321, 123
    calls.told.update(dict.fromkeys(Action, 321))
    calls.routed.update({Ending.FAILED: 30, Ending.CONNECTED: 470})
    calls.alone.update({Ending.FAILED: 90, Ending.CONNECTED: 510})
    return DemoTally(
        seconds=300.0,
        bindings=378,
        checks=24_000,
        checks_per_second=80.0,
        changes=3456,
        routes=Counter(dict.fromkeys(Action, 75)),
        calls=calls,
        brakes={"FC100003": BRAKE, "FC100001": {**BRAKE, "engaged_since": "", "used": 1, "held": 0}},
        failures=[FailedSoFar(float(at), at // 10, at * 3 // 10) for at in range(300)],
        report={
            "observed": [
                {
                    "pool_key": "FC100005",
                    "avoided": {"calls": 120, "of": 144},
                    "changed": {"calls": 100, "of": 264},
                }
            ]
        },
    )


def a_move(serial: int) -> RouteMove:
    return RouteMove(
        at=0.0,
        subs_id=f"{10**15 + serial}",
        before="unverified",
        after="temporary",
        action="dial_temp_x",
        number="***72",
        reason="observed, would dial_temp_x",
    )


CAPTIONS = (
    DemoCaption(0.0, "378 bindings are registered; until checked, each dials X"),
    DemoCaption(10.0, "pool FC100003 runs out of temporary numbers", bad=True),
    DemoCaption(12.0, "the brake stops FC100003: no more real numbers, calls are held", bad=True),
)


def a_panel(width: int, height: int) -> Panel:
    """The panel of a fixed state on a screen of this size."""
    screen = Console(
        file=io.StringIO(), width=width, height=height, force_terminal=True, color_system=None, soft_wrap=True
    )
    panel = Panel(screen)
    panel.opened(URL, URL, 378)
    for caption in CAPTIONS:
        panel.add_caption(caption)
    for serial in range(CHANGES):
        panel.moved(a_move(serial))
    panel.glance(a_tally())
    return panel


@pytest.mark.parametrize(("width", "height"), [(80, 24), (100, 34), (160, 50)])
def test_the_panel_fills_the_screen_and_nothing_is_cut(width: int, height: int) -> None:
    lines = [line.plain.rstrip() for line in a_panel(width, height).lines(width, height)]
    assert len(lines) == height
    assert max(map(len, lines)) <= width
    assert not any(line.endswith("…") for line in lines)
    told = [line for line in lines if line.startswith("t+")]
    assert told == [str(caption) for caption in reversed(CAPTIONS)]
    assert lines.index("failed calls so far (123 held back by precall)") > lines.index(told[-1])
    assert any(line.endswith("X alone: 90 of 600, 15.0%") for line in lines)
    assert any(line.endswith("precall: 30 of 500, 6.0%") for line in lines)
    assert "brake  FC100003 gave out 20 real numbers in 10 min: 34 bindings are held" in lines
    assert any("answers to the dispatcher" in line for line in lines)
    changes = lines[
        next(at for at, line in enumerate(lines) if line.startswith("changes, newest first")) + 1 :
    ]
    assert len(changes) >= 4
    assert all(line.endswith("observed, would dial_temp_x") for line in changes)
    newest_first = [f"{CHANGES - 1 - place:04d} " for place in range(len(changes))]
    assert all(serial in line for serial, line in zip(newest_first, changes, strict=True))


def test_the_panel_follows_the_size_of_the_terminal() -> None:
    panel = a_panel(160, 50)
    for width, height in ((80, 24), (40, 10), (20, 3), (160, 50)):
        lines = panel.lines(width, height)
        assert len(lines) == height
        assert all(line.cell_len <= width for line in lines)


def test_the_brake_says_what_it_is_for_before_it_engages() -> None:
    tally = a_tally()
    tally.brakes = {"FC100003": {**BRAKE, "engaged_since": "", "used": 3, "held": 0}}
    panel = a_panel(80, 24)
    panel.glance(tally)
    lines = [line.plain for line in panel.lines(80, 24)]
    place = lines.index("brake  off: at most 20 bindings of a pool may turn to a real number in 10 min")
    assert lines[place + 1] == "       so far FC100003 had 3; beyond that, calls are held"


def test_what_is_logged_under_the_panel_is_shown_once_it_is_gone(capsys: pytest.CaptureFixture[str]) -> None:
    with a_panel(80, 24):
        sys.stderr.write("an error of the daemon\n")
        assert capsys.readouterr().err == ""
    assert capsys.readouterr().err == "an error of the daemon\n"


def test_lines_tell_captions_as_they_come() -> None:
    out = io.StringIO()
    with Lines(Console(file=out, width=200, color_system=None, soft_wrap=True)) as lines:
        lines.opened(URL, URL, 378)
        for caption in CAPTIONS:
            lines.add_caption(caption)
        lines.moved(a_move(1))
        lines.glance(a_tally())
    shown = out.getvalue().splitlines()
    assert [line for line in shown if line.startswith("t+")] == [str(caption) for caption in CAPTIONS]
    assert shown[-1].startswith(" 300 s  routes: dial_x 75")


def test_the_end_is_no_larger_than_a_terminal() -> None:
    lines = [line.plain.rstrip() for line in summary(a_tally(), ".venv/bin/precall", 80)]
    assert len(lines) < 24
    assert max(map(len, lines)) <= 80
    assert "  by precall's route      30 of  500 calls failed    6.0%   (123 held back)" in lines
    assert "  FC100005 observed: would avoid 120 of 144 failed, change 100 of 264 good" in lines
    assert [line.partition("#")[0].strip() for line in lines[-3:]] == [*commands_to_try(".venv/bin/precall")]
    assert len(lines) > len(summary(a_tally(), "precall"))  # there are curves on a terminal only
