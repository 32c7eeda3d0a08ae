"""Curves in a terminal rise where their values rise, end at their labels, and need no colours and no Unicode."""

from precall.cli.curves import Curve, curves

RISING = Curve("steep", "red", "x", [(0.0, 0.0), (10.0, 90.0)])
FLAT = Curve("flat", "green", "o", [(0.0, 0.0), (10.0, 10.0)])


def test_curves_rise_to_their_labels() -> None:
    lines = [line.plain for line in curves([RISING, FLAT], 60, 6, unicode=False)]
    assert len(lines) == 6
    assert max(map(len, lines)) <= 60
    assert lines[0].startswith("90 | ")
    assert lines[0].endswith("x steep")
    assert lines[-1].startswith(" 0 | x")
    assert [place for place, line in enumerate(lines) if line.endswith(" flat")] == [4]
    where = [line.index("x") for line in lines]
    assert where == sorted(where, reverse=True)


def test_braille_draws_the_same_curve_more_finely() -> None:
    lines = [line.plain for line in curves([RISING], 60, 6, unicode=True)]
    drawn = "".join(lines)
    assert all("\u2800" < sign <= "\u28ff" or sign in " │0123456789steep" for sign in drawn)
    assert len({sign for sign in drawn if sign > "\u2800"}) > 3
    assert lines[0].endswith(" steep")


def test_labels_of_curves_that_end_together_stand_apart() -> None:
    lines = [
        line.plain for line in curves([RISING, Curve("same", "", "o", RISING.points)], 60, 4, unicode=False)
    ]
    assert lines[0].endswith(" steep")
    assert lines[1].endswith(" same")


def test_without_points_there_is_a_flat_line() -> None:
    lines = [line.plain for line in curves([Curve("none", "", "o", [])], 40, 4, unicode=False)]
    assert lines[-1].startswith("0 | ooo")
    assert lines[-1].endswith(" none")


def test_a_narrow_screen_has_curves_without_labels() -> None:
    lines = [line.plain for line in curves([RISING], 14, 4, unicode=False)]
    assert max(map(len, lines)) <= 14
    assert not any("steep" in line for line in lines)
