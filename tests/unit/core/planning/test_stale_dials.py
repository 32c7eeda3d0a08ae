"""When too many of the recent dials were stale, and when that is over."""

from precall.core.ages import Tick
from precall.core.planning.stale_dials import LEAST, LIMIT, RETURN, WINDOW, StaleDials


def counted(dials: StaleDials, tick: float, *, stale: int = 0, fresh: int = 0, excused: bool = False) -> bool:
    for _ in range(stale):
        dials.count(stale=True)
    for _ in range(fresh):
        dials.count(stale=False)
    return dials.judge(Tick(tick), excused=excused)


def test_a_shortage_begins_above_the_limit_and_ends_well_below_it() -> None:
    dials = StaleDials()
    assert not counted(dials, 0.0, stale=5, fresh=95)
    assert not dials.short, "exactly the limit"
    assert counted(dials, 20.0, stale=1)
    assert (dials.short, dials.dials) == (True, 101)
    assert dials.share > LIMIT
    assert not counted(dials, 40.0, fresh=30), "below the limit, but not well below"
    assert dials.short
    assert LIMIT * RETURN < dials.share < LIMIT
    assert counted(dials, 60.0, fresh=110)
    assert not dials.short


def test_dials_leave_the_window_also_without_new_ones() -> None:
    dials = StaleDials()
    assert counted(dials, 0.0, stale=LEAST)
    assert not counted(dials, WINDOW - 1)
    assert counted(dials, WINDOW)
    assert (dials.short, dials.dials, dials.share) == (False, 0, 0.0)


def test_a_few_dials_prove_nothing() -> None:
    dials = StaleDials()
    assert not counted(dials, 0.0, stale=LEAST - 1)
    assert not dials.short
    assert counted(dials, 1.0, fresh=1)
    assert dials.short


def test_excused_dials_do_not_count() -> None:
    dials = StaleDials()
    assert not counted(dials, 0.0, stale=10 * LEAST, excused=True)
    assert not counted(dials, 1.0, fresh=LEAST)
    assert (dials.short, dials.dials) == (False, LEAST)


def test_another_promise_starts_afresh() -> None:
    dials = StaleDials()
    assert counted(dials, 0.0, stale=LEAST)
    assert dials.forget()
    assert not dials.short
    assert not dials.forget()
    assert not counted(dials, 1.0, fresh=LEAST)
    assert dials.share == 0.0
