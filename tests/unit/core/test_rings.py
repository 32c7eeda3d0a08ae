"""Rings of figures: a fixed size, no value twice, gaps for what is missing, whatever the clock does."""

from hypothesis import given
from hypothesis import strategies as st

from precall.core.rings import Increases, Ring, columns

MOMENTS = st.floats(0, 4e9, allow_nan=False)


@given(st.lists(MOMENTS, max_size=60))
def test_a_ring_holds_one_value_per_moment_and_never_grows(clock: list[float]) -> None:
    ring: Ring[float] = Ring("r", 15, 8)
    for now in clock:
        ring.put(ring.moment(now), now)
        found = ring.recent(now)
        assert list(found) == sorted(found)
        assert found[ring.moment(now)] == now
        assert len(found) <= ring.size
        assert all(now - ring.span - ring.step < at <= now for at in found)


@given(MOMENTS, st.integers(1, 3600), st.integers(1, 2000))
def test_neighbouring_moments_have_different_slots(now: float, step: int, size: int) -> None:
    ring: Ring[int] = Ring("r", step, size)
    at = ring.moment(now)
    assert at <= now < at + step
    assert 0 <= ring.slot(at) < size
    assert ring.slot(at + size * step) == ring.slot(at)
    assert size == 1 or ring.slot(at + step) != ring.slot(at)


def test_what_is_a_whole_ring_old_does_not_count() -> None:
    ring: Ring[str] = Ring("r", 10, 3)
    ring.put(100.0, "a")
    assert ring.recent(129.9) == {100.0: "a"}
    assert ring.recent(130.0) == {}
    assert ring.get(100.0) == "a"
    assert ring.get(130.0) is None


def test_moments_that_have_not_come_are_forgotten() -> None:
    ring: Ring[str] = Ring("r", 10, 9)
    for at in (100.0, 110.0, 120.0):
        ring.put(at, str(at))
    ring.forget_after(110.0)
    assert list(ring.recent(150.0)) == [100.0, 110.0]


def test_increases_begin_with_the_second_look() -> None:
    increases = Increases()
    assert increases.look({"a": 100}, 5.0) == (0.0, {})
    assert increases.look({"a": 130, "b": 7}, 15.0) == (10.0, {"a": 30})
    assert increases.look({"a": 130, "b": 9}, 20.0) == (5.0, {"a": 0, "b": 2})


def test_a_counter_that_began_again_is_a_gap() -> None:
    increases = Increases()
    increases.look({"a": 100, "b": 1}, 0.0)
    assert increases.look({"a": 3, "b": 2}, 10.0) == (10.0, {"b": 1})
    assert increases.look({"a": 5, "b": 2}, 20.0) == (10.0, {"a": 2, "b": 0})
    increases.forget()
    assert increases.look({"a": 900}, 30.0) == (0.0, {})
    assert increases.look({"a": 950}, 30.0) == (0.0, {})


def test_columns_are_merged_and_have_gaps() -> None:
    found = {
        100.0: {"rate": 1.0, "calls": 1.0, "oldest": 5.0},
        115.0: {"rate": 2.0, "calls": 2.0, "oldest": 9.0},
        130.0: {"rate": 4.0, "calls": 3.0},
        160.0: {"calls": 7.0},
        900.0: {"rate": 100.0},
    }
    shown = columns(
        found,
        ("rate", "calls", "oldest", "other"),
        [100.0, 130.0, 160.0, 190.0],
        {"calls": sum, "oldest": max},
    )
    assert shown == {
        "rate": [1.0, 3.0, None, None],
        "calls": [1.0, 5.0, 7.0, None],
        "oldest": [5.0, 9.0, None, None],
        "other": [None, None, None, None],
    }


def test_a_single_moment_has_no_step() -> None:
    assert columns({1.0: {"a": 1.0}}, ["a"], [1.0], {}) == {"a": [None]}
    assert columns({}, ["a"], [], {}) == {"a": []}
