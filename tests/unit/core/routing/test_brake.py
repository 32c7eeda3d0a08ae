"""The brake: exactly the cap, never one more, and how it opens again."""

from hypothesis import given
from hypothesis import strategies as st

from precall.core.routing.brake import Brake


def turned(brake: Brake, times: int, now: float, active: int = 100) -> int:
    return sum(brake.admit("FC1", active, now) for _ in range(times))


def test_exactly_the_cap_is_admitted() -> None:
    brake = Brake(share=0.05, floor=20, window=600.0)
    assert turned(brake, 1000, 0.0, active=1000) == 50
    assert brake.engaged("FC1", 1000, 0.0)
    assert turned(Brake(0.05, 20, 600.0), 1000, 0.0, active=10) == 20


def test_pools_have_separate_caps() -> None:
    brake = Brake(0.05, 1, 600.0)
    assert brake.admit("FC1", 1, 0.0)
    assert not brake.admit("FC1", 1, 0.0)
    assert brake.admit("FC2", 1, 0.0)


def test_it_releases_itself_when_fewer_than_half_the_cap_turned_in_the_window() -> None:
    brake = Brake(0.0, 4, 600.0)
    assert turned(brake, 2, 0.0) == 2
    assert turned(brake, 9, 300.0) == 2
    assert turned(brake, 1, 601.0) == 0, "two of four are not fewer than half"
    assert turned(brake, 9, 901.0) == 4


def test_an_operators_release_starts_a_new_cap() -> None:
    brake = Brake(0.0, 4, 600.0)
    assert turned(brake, 9, 0.0) == 4
    brake.release("FC1")
    assert turned(brake, 9, 1.0) == 4


def test_a_halt_holds_a_pool_or_all_until_released() -> None:
    brake = Brake(0.0, 4, 600.0)
    brake.halt("FC1")
    assert (brake.halted("FC1"), brake.halted("FC2")) == (True, False)
    assert not brake.admit("FC1", 100, 0.0)
    brake.release("FC1")
    assert brake.admit("FC1", 100, 0.0)
    brake.halt()
    assert brake.halted("FC2")
    assert not brake.admit("FC2", 100, 0.0)
    brake.release()
    assert brake.admit("FC2", 100, 0.0)


def test_the_brake_stays_engaged_across_a_restart() -> None:
    brake = Brake(0.0, 4, 600.0)
    for at in (0.0, 1.0, 2.0, 3.0):
        brake.recall("FC1", at)
    assert not brake.admit("FC1", 100, 10.0)


@given(
    st.lists(st.tuples(st.floats(0.0, 50.0), st.integers(1, 8)), max_size=60),
    st.integers(1, 10),
)
def test_never_more_than_the_cap_within_any_window(bursts: list[tuple[float, int]], floor: int) -> None:
    brake, now, admitted = Brake(0.0, floor, 100.0), 0.0, []
    for wait, tries in bursts:
        now += wait
        admitted += [now for _ in range(tries) if brake.admit("FC1", 0, now)]
    for at in admitted:
        assert sum(at - 100.0 < other <= at for other in admitted) <= floor


def test_a_changed_cap_applies_at_once() -> None:
    brake = Brake(0.0, 4, 600.0)
    assert turned(brake, 3, 0.0) == 3
    brake.retune(0.0, 6, 600.0)
    assert turned(brake, 9, 1.0) == 3
    assert brake.engaged("FC1", 0, 1.0)
    brake.retune(0.0, 6, 1200.0)
    assert turned(brake, 9, 2.0) == 0, "engaged until fewer than half the cap turned, or it is released"
    brake.retune(0.0, 8, 600.0)
    assert turned(brake, 9, 2.0) == 2, "a larger cap has room at once"
    brake.release("FC1")
    brake.retune(0.0, 2, 600.0)
    assert turned(brake, 9, 3.0) == 2


def test_a_longer_window_includes_earlier_exposures_once() -> None:
    brake = Brake(0.0, 4, 10.0)
    assert turned(brake, 3, 100.0) == 3
    assert turned(brake, 1, 120.0) == 1
    brake.retune(0.0, 4, 60.0, [("FC1", 100.0)] * 3 + [("FC1", 120.0)])
    assert turned(brake, 9, 121.0) == 0
    assert turned(brake, 9, 161.0) == 3, "those of 100 are over"


def test_a_shorter_window_drops_old_exposures() -> None:
    brake = Brake(0.0, 4, 600.0)
    assert turned(brake, 4, 0.0) == 4
    brake.retune(0.0, 4, 10.0)
    assert turned(brake, 9, 20.0) == 4


def test_it_tells_since_when_the_cap_is_reached_and_how_much_of_it_is_used() -> None:
    brake = Brake(0.0, 4, 600.0)
    assert (brake.engaged_since("FC1", 100, 0.0), brake.used("FC1")) == (None, 0)
    turned(brake, 3, 10.0)
    assert brake.engaged_since("FC1", 100, 15.0) is None
    turned(brake, 9, 20.0)
    assert (brake.engaged_since("FC1", 100, 30.0), brake.used("FC1")) == (20.0, 4)
    brake.release("FC1")
    assert (brake.engaged_since("FC1", 100, 31.0), brake.used("FC1")) == (None, 0)


def test_a_restored_brake_tells_when_the_cap_was_reached() -> None:
    brake = Brake(0.0, 2, 600.0)
    brake.recall("FC1", -50.0)
    brake.recall("FC1", -40.0)
    assert brake.engaged_since("FC1", 100, 0.0) == -40.0


def test_orders_are_no_engagement() -> None:
    brake = Brake(0.0, 4, 600.0)
    brake.halt("FC2")
    assert (brake.orders, brake.engaged_since("FC2", 100, 0.0)) == (["FC2"], None)
    brake.halt()
    assert brake.orders == ["", "FC2"]
    brake.release()
    assert brake.orders == []
