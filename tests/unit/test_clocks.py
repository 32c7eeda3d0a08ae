"""Two clocks: whatever is done to the one on the wall, nothing outlives its time, and nothing is held for it."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from precall.clocks import Clocks
from precall.core.ages import AHEAD, Horizon, age_of, backdate
from precall.core.model import Action, Policy, Reason, Row, State
from precall.core.routing.route import decide, past, too_old
from precall.core.routing.state import advance, flapping
from precall.table.table import Table
from tests.support.builders import NOW, POLICY, TEMP, X, answer, binding, row

DAY = 86_400.0


class Machine:
    """The true time, a wall clock that is `off` by some seconds, and a monotonic clock."""

    def __init__(self, off: float = 0.0) -> None:
        self.true, self.off = NOW, off
        self.clocks = Clocks(lambda: self.true + self.off, lambda: self.true - NOW)


def test_setting_the_clock_back_revives_no_binding() -> None:
    machine = Machine()
    machine.off = -300.0
    assert machine.clocks.now() == NOW
    assert (machine.clocks.lead, machine.clocks.behind) == (0.0, 300.0)


def test_a_clock_set_ahead_and_back_has_no_lead() -> None:
    machine = Machine()
    machine.off = DAY
    assert (machine.clocks.now(), machine.clocks.lead) == (NOW + DAY, DAY)
    machine.off = 0.0
    assert (machine.clocks.now(), machine.clocks.lead, machine.clocks.behind) == (NOW, 0.0, 0.0)


@pytest.mark.parametrize("moved", [DAY, -DAY, 600.0, -600.0, 1.0, -1.0])
def test_each_clock_step_is_noticed_once(moved: float) -> None:
    machine = Machine()
    machine.true += 5.0
    assert machine.clocks.step() == 0.0
    machine.off = moved
    assert machine.clocks.step() == pytest.approx(moved)
    assert machine.clocks.step() == 0.0
    machine.off = 0.0
    assert machine.clocks.step() == pytest.approx(-moved)


class Suspended:
    """A machine that suspends the process before it reads a clock, for each of `pauses` seconds in turn."""

    def __init__(self, pauses: Sequence[float] = ()) -> None:
        self.true = NOW
        self.pauses = list(pauses)
        self.clocks = Clocks(self.wall, self.tick)

    def wall(self) -> float:
        self._pause()
        return self.true

    def tick(self) -> float:
        self._pause()
        return self.true - NOW

    def _pause(self) -> None:
        self.true += self.pauses.pop(0) if self.pauses else 0.0


@pytest.mark.parametrize(
    "pauses", [[0.0, 2.0], [0.0, 0.0, 2.0], [0.0, 0.0, 0.0, 2.0], [0.0, 1.0, 0.0, 0.0, 1.0]]
)
def test_a_process_suspended_between_two_readings_sees_no_step(pauses: list[float]) -> None:
    machine = Suspended()
    clocks = machine.clocks
    machine.pauses = list(pauses)
    assert clocks.step() == 0.0
    machine.pauses = list(pauses)
    assert (clocks.lead, clocks.behind) == (0.0, 0.0)
    machine.pauses = list(pauses)
    assert clocks.tick_of(NOW + 1.0) == pytest.approx(min(1.0, machine.true - NOW))
    machine.pauses = list(pauses)
    assert clocks.moment_of(1.0) == pytest.approx(NOW + 1.0)


def test_a_process_suspended_at_the_start_takes_the_clocks_as_they_are() -> None:
    clocks = Suspended([0.0, 3.0]).clocks
    assert (clocks.lead, clocks.behind, clocks.step()) == (0.0, 0.0, 0.0)


def test_a_drift_is_noticed_once_it_is_large_enough() -> None:
    machine, found = Machine(), 0.0
    for _ in range(1000):
        machine.true += 1.0
        machine.off += 0.01
        found += machine.clocks.step()
    assert found == pytest.approx(10.0, abs=0.5)


def test_a_moment_becomes_a_tick_by_its_age() -> None:
    machine = Machine()
    machine.true += 100.0
    machine.off = DAY
    clocks = machine.clocks
    assert clocks.tick_of(clocks.now() - 40.0) == pytest.approx(60.0)
    assert clocks.tick_of(clocks.now() + 40.0) == pytest.approx(100.0), "what is yet to come is now"
    assert clocks.moment_of(160.0) == pytest.approx(clocks.now() + 60.0)


def test_an_age_is_never_below_zero_and_unknown_in_the_future() -> None:
    assert [age_of(at, 100.0) for at in (40.0, 100.0, 100.0 + AHEAD)] == [60.0, 0.0, 0.0]
    assert age_of(100.0 + AHEAD + 1, 100.0) == float("inf")


def checked(
    at: float, status: int, policy: Policy = POLICY, before: Row | None = None, **facts: object
) -> Row:
    """The row after an answer at `at`, let through by the brake if it was Status 3."""
    stands = before or row(**facts)
    step = advance(
        stands.binding, stands.state, answer(status), generation=stands.binding.generation,
        seq=stands.state.seq + 1, policy=policy, now=at, chance=0.0,
    )  # fmt: skip
    state = step.state
    if state.state is State.FALLBACK and not state.exposed_at:
        state = replace(state, exposed_at=at)
    return replace(stands, state=state)


@pytest.mark.parametrize(
    ("status", "end", "action", "reason"),
    [
        (1, NOW + 3600.0, Action.DIAL_X, Reason.STATUS_1),
        (1, None, Action.HOLD, Reason.TOO_OLD),
        (2, NOW + 3600.0, Action.HOLD, Reason.TOO_OLD),
        (3, NOW + 3600.0, Action.HOLD, Reason.TOO_OLD),
    ],
)
def test_an_observation_from_the_future_holds_routes_that_depend_on_its_age(
    status: int, end: float | None, action: Action, reason: Reason
) -> None:
    """As another daemon stored it whose clock was ahead."""
    route = decide(checked(NOW + 60.0, status, expires_at=end), "", POLICY, NOW)
    assert (route.action, route.reason, route.age, route.stale) == (action, reason, None, True)
    assert decide(checked(NOW + AHEAD, status, expires_at=end), "", POLICY, NOW).age == 0.0
    well = decide(checked(NOW, status, expires_at=end, before=checked(NOW + 60.0, status, expires_at=end)), "",
                  POLICY, NOW)  # fmt: skip
    assert well.action is {1: Action.DIAL_X, 2: Action.DIAL_TEMP_X, 3: Action.DIAL_REAL}[status]
    assert (well.age, well.stale) == (0.0, False)


def test_an_unverified_x_without_an_end_registered_in_the_future_is_held() -> None:
    ahead = row(expires_at=None, registered_at=NOW + 60.0)
    assert too_old(ahead, POLICY, NOW)
    assert not too_old(row(expires_at=None), POLICY, NOW)


def test_transitions_in_the_future_do_not_count_as_flapping() -> None:
    state = replace(row().state, moves=(NOW + 60.0,) * 5)
    assert not flapping(state, Horizon(NOW))
    assert flapping(replace(state, moves=(NOW - 60.0,) * 5), Horizon(NOW))


def test_a_change_from_the_future_is_shown_without_its_number() -> None:
    route = decide(checked(NOW, 2), "", POLICY, NOW)
    assert past(route, NOW, POLICY, NOW + 1).number == TEMP
    again = past(route, NOW, POLICY, NOW - 60.0)
    assert (again.action, again.number, again.age, again.stale) == (Action.HOLD, "", None, True)


def test_rows_stamped_by_a_clock_ahead_are_returned_with_their_true_age() -> None:
    machine = Machine()
    table = Table(lambda: machine.clocks.lead)
    machine.off = 600.0
    table.publish("1", checked(machine.clocks.now(), 2, subs_id="1", registered_at=machine.clocks.now()))
    machine.true += 500.0
    machine.off = 0.0
    found = table.get("1")
    assert found is not None
    assert (found.state.checked_at, found.state.temp_at, found.binding.registered_at) == (NOW, NOW, NOW)
    assert table.restamp("1")
    assert not table.restamp("1"), "once"
    assert table.get("1") == found == next(iter(table.rows()))


def test_rows_stamped_before_the_step_keep_their_age() -> None:
    machine = Machine()
    table = Table(lambda: machine.clocks.lead)
    first = checked(NOW, 2, subs_id="1")
    table.publish("1", first)
    machine.off = DAY
    failed = replace(first, state=replace(first.state, failures=1))
    table.refresh(failed)
    machine.off = 0.0
    assert table.get("1") == failed, "a failed check is no observation"


def test_a_row_lapsed_by_a_clock_ahead_counts_again_once_it_is_right() -> None:
    table = Table()
    found = row(subs_id="1")
    table.publish("1", found)
    table.lapse(found)
    assert (table.active("FC1"), table.count(State.EXPIRED)) == (0, 1)
    table.revive(found)
    table.revive(found)
    assert (table.active("FC1"), table.count(State.EXPIRED)) == (1, 0)


def test_correcting_times_keeps_zero() -> None:
    plain = row()
    assert backdate(plain, 60.0) == replace(
        plain, binding=binding(registered_at=plain.binding.registered_at - 60.0)
    )


TTL = Policy(temporary_ttl=600.0, real_ttl=600.0, x_ttl=900.0, skew=0.0)
STEPS = st.lists(
    st.tuples(
        st.floats(0.0, 400.0),
        st.sampled_from([None, 0.0, 1.0, -1.0, 300.0, -300.0, 600.0, -600.0, 3600.0, DAY, -DAY, 400 * DAY]),
        st.sampled_from(["", "", "check", "fail"]),
    ),
    max_size=12,
)


@given(steps=STEPS, status=st.sampled_from([1, 2, 3]), end=st.sampled_from([None, 1000.0]))
def test_no_route_outlives_its_time_whatever_the_clock_does(
    steps: list[tuple[float, float | None, str]], status: int, end: float | None
) -> None:
    """Let time pass, set the wall clock (None.

    Leave it), and answer or fail a check. After each step, judge the published route by the true time.
    """
    machine = Machine()
    table = Table(lambda: machine.clocks.lead)
    expires_at = None if end is None else NOW + end
    answered, first = NOW, checked(NOW, status, TTL, subs_id="1", expires_at=expires_at, registered_at=NOW)
    table.publish("1", first)
    for seconds, off, happens in steps:
        machine.true += seconds
        machine.off = machine.off if off is None else off
        stands = table.get("1")
        assert stands is not None
        if happens == "check":
            table.refresh(checked(machine.clocks.now(), status, TTL, before=stands))
            answered = machine.true
        elif happens == "fail":
            table.refresh(replace(stands, state=replace(stands.state, failures=stands.state.failures + 1)))
        stands = table.get("1")
        assert stands is not None
        route, age = decide(stands, "", TTL, machine.clocks.now()), machine.true - answered
        assert route.age is None or route.age >= 0.0
        ttl = {1: TTL.x_ttl if end is None else float("inf"), 2: TTL.temporary_ttl, 3: TTL.real_ttl}[status]
        over = expires_at is not None and machine.true >= expires_at
        if over:
            assert route.action is Action.EXPIRED
        elif age > ttl:
            assert route.action in (Action.HOLD, Action.EXPIRED)
        if happens == "check" and (expires_at is None or machine.clocks.now() < expires_at):
            assert route.action not in (Action.HOLD, Action.EXPIRED), "held after its check"
        if machine.off == 0.0 and not over and age <= ttl - 1:
            assert route.number in (X, TEMP) or route.action is Action.DIAL_REAL, (
                "held though the clock is right"
            )
