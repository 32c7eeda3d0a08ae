"""The demonstration fits on the terminals people have: nothing is cut, and the latest changes are shown."""

import io
from collections import Counter

import pytest
from rich.console import Console

from precall.cli.demo import DemoTally, RouteMove
from precall.cli.demo_view import Panel, summary
from precall.core.model import Action
from precall.simulator import CallTally

URL = "http://127.0.0.1:46679"
CHANGES = 12


def a_tally() -> DemoTally:
    """Five minutes of the demonstration."""
    calls = CallTally()
    calls.asked, calls.not_placed = 4321, 123
    calls.told.update(dict.fromkeys(Action, 321))
    return DemoTally(
        seconds=300.0,
        bindings=378,
        checks=24_000,
        checks_per_second=80.0,
        changes=3456,
        routes=Counter(dict.fromkeys(Action, 75)),
        calls=calls,
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


@pytest.mark.parametrize(("width", "height"), [(80, 24), (100, 34), (160, 50)])
def test_the_panel_fits_the_screen(width: int, height: int) -> None:
    out = io.StringIO()
    screen = Console(
        file=out, width=width, height=height, force_terminal=True, color_system=None, soft_wrap=True
    )
    with Panel(screen) as panel:
        panel.opened(URL, URL, 378, "")
        for serial in range(CHANGES):
            panel.moved(a_move(serial))
        panel.glance(a_tally())
        out.truncate(0)
        panel.glance(a_tally())
        shown = out.getvalue()
    lines = [line.rstrip() for line in shown[shown.index("precall demo") :].splitlines()]
    assert len(lines) <= height
    assert max(map(len, lines)) <= width
    assert any(line.endswith("(123 held back)") for line in lines)
    assert "  FC100005 observed: would avoid 120 of 144 failed, change 100 of 264 good" in lines
    assert any("answers to the dispatcher" in line for line in lines)
    changes = lines[lines.index("changes") + 1 :]
    assert len(changes) == min(CHANGES, height - lines.index("changes") - 1)
    assert all(line.endswith("observed, would dial_temp_x") for line in changes)
    assert f"{CHANGES - 1:04d} " in changes[-1]


def test_no_line_of_the_summary_is_wider_than_a_terminal() -> None:
    assert all(len(line.plain.rstrip()) <= 80 for line in summary(a_tally()))
