"""The log of dials: which bindings it covers and what it records; and replays of logs whose truth is known."""

import random
from dataclasses import replace
from math import inf

import pytest

from precall.core.model import Binding, BindingState, Row, State
from precall.core.planning.rates import START_DIAL_RATE, START_RECOVERY_RATE
from precall.core.planning.replay import BASELINE, POLICIES, ReplayLog, reconstruct, refit, score
from precall.core.planning.sample import DialRecord, LogEvent, Sample, read

KEY = bytes(range(16))
ROW = Row(
    Binding("1000000000000001", "FC1", "17000000001", "13800000001", "13900000001"),
    BindingState(State.TEMPORARY, 2, "17100000001", temp_number="17100000001"),
)
NORMAL = BindingState(State.NORMAL, 1, "17000000001")


def line(n: int, kind: LogEvent, at: float, face: str = "", *, verified: bool = False) -> DialRecord:
    return DialRecord(f"b{n}", f"FC{n % 2}", f"x{n}", kind, face, at, verified)


# -- the log ------------------------------------------------------------------------------------------


def test_the_sample_has_the_configured_share_and_is_stable() -> None:
    sample = Sample(0.1, KEY)
    chosen = [n for n in range(5000) if sample.holds(str(n))]
    assert 400 < len(chosen) < 600
    again = Sample(0.1, KEY)
    assert [n for n in range(5000) if again.holds(str(n))] == chosen
    smaller = Sample(0.02, KEY)
    assert {n for n in range(5000) if smaller.holds(str(n))} < set(chosen)
    assert not any(Sample(0.0, KEY).holds(str(n)) for n in range(100))
    assert all(Sample(1.0, KEY).holds(str(n)) for n in range(100))


def test_log_lines_contain_no_number_and_no_id() -> None:
    event = Sample(1.0, KEY).event(ROW, LogEvent.ANSWER, 7.0)
    for number in (ROW.binding.subs_id, "17000000001", "13800000001", "13900000001", "17100000001"):
        assert number not in str(event.plain())


def test_pseudonyms_depend_on_the_key() -> None:
    one, other = Sample(1.0, KEY), Sample(1.0, bytes(16))
    first, second, foreign = (sample.event(ROW, LogEvent.DIAL, 1.0) for sample in (one, one, other))
    assert first == second
    assert {first.binding, first.x, first.face}.isdisjoint({foreign.binding, foreign.x, foreign.face})
    moved = replace(ROW, state=replace(ROW.state, temp_number="17100000002"))
    found = one.event(moved, LogEvent.DIAL, 1.0)
    assert found.face != first.face
    calm = one.event(replace(ROW, state=NORMAL), LogEvent.DIAL, 1.0)
    assert calm.face == ""


def test_log_lines_round_trip() -> None:
    event = line(1, LogEvent.DIAL, 12.5, "f", verified=True)
    assert read(event.plain()) == event


@pytest.mark.parametrize(
    "change",
    [
        {"kind": "dance"},
        {"at": "soon"},
        {"at": -1},
        {"at": True},
        {"at": inf},
        {"verified": 1},
        {"x": 3},
        {"binding": ""},
    ],
)
def test_malformed_lines_are_rejected(change: dict[str, object]) -> None:
    with pytest.raises((KeyError, TypeError, ValueError)):
        read(line(1, LogEvent.ADD, 1.0).plain() | change)
    with pytest.raises(KeyError):
        read({})


# -- the world ----------------------------------------------------------------------------------------


def test_a_change_is_dated_halfway_between_two_answers() -> None:
    log = [
        line(1, LogEvent.ADD, 0.0),
        line(1, LogEvent.ANSWER, 10.0),
        line(1, LogEvent.ANSWER, 20.0, "t1"),
        line(1, LogEvent.DIAL, 25.0),
        line(1, LogEvent.ANSWER, 30.0, "t1"),
        line(1, LogEvent.ANSWER, 50.0),
        line(1, LogEvent.REMOVE, 60.0),
    ]
    (life,) = reconstruct(log).lives
    assert life.changes == [(0.0, ""), (15.0, "t1"), (40.0, "")]
    assert (life.begin, life.registered_at, life.end) == (0.0, 0.0, 60.0)
    assert reconstruct(reversed([*log, *log])) == reconstruct(log)


def test_lifetimes_start_with_the_log_and_may_resume_after_a_removal() -> None:
    result = reconstruct(
        [
            line(1, LogEvent.REMOVE, 1.0),
            line(2, LogEvent.ANSWER, 5.0, "t"),
            line(2, LogEvent.REMOVE, 9.0),
            line(2, LogEvent.ADD, 11.0),
            line(2, LogEvent.ANSWER, 12.0),
            line(3, LogEvent.DIAL, 13.0),
        ]
    )
    assert [(life.begin, life.registered_at, life.end) for life in result.lives] == [
        (5.0, None, 9.0),
        (11.0, 11.0, inf),
    ]
    assert result.rate == pytest.approx(2 / 12)


def two_bindings() -> ReplayLog:
    """One binding in trouble from 1000 on, dialled every 100 s from 1050; and one that is never dialled."""
    log = [line(n, kind, 0.0) for n in (1, 2) for kind in (LogEvent.ADD, LogEvent.ANSWER)]
    log += [
        line(1, LogEvent.ANSWER, 999.0),
        line(1, LogEvent.ANSWER, 1001.0, "t"),
        line(2, LogEvent.ANSWER, 2000.0),
    ]
    log += [line(1, LogEvent.DIAL, at) for at in range(1050, 2000, 100)]
    return reconstruct(log)


def test_known_truth_gives_known_scores() -> None:
    # Checks at 600, 1200 and 1800, alternating. The trouble that began at 1000 is detected at 1800.
    result = score(two_bindings(), BASELINE, 1 / 600)
    assert result.dials == 10
    assert result.wrong == pytest.approx(8 / 10)
    assert result.longest_age == pytest.approx(1200.0)
    ages = [at - 600 if at < 1800 else at - 1800 for at in range(1050, 2000, 100)]
    assert result.mean_age == pytest.approx(sum(ages) / 10)


def test_a_dial_that_was_checked_live_is_never_wrong_and_costs_a_call() -> None:
    log = two_bindings()
    log.lives[0].dials = [(1050.0, True), (1150.0, False)]
    result = score(log, BASELINE, 1 / 600)
    assert (result.dials, result.wrong) == (2, 0.0)
    assert result.longest_age == pytest.approx(1800.0)


@pytest.mark.parametrize("rate", [0.0, -1.0, 1e9])
def test_a_rate_that_cannot_be_replayed_is_refused(rate: float) -> None:
    with pytest.raises(ValueError, match="calls"):
        score(two_bindings(), BASELINE, rate)


def traffic(seed: int) -> ReplayLog:
    """400 bindings for ten hours: only the first 40 are dialled, and some of these only are in trouble."""
    chance = random.Random(seed)
    log = []
    for n in range(400):
        log += [line(n, LogEvent.ADD, n / 10), line(n, LogEvent.ANSWER, n / 10)]
        bad_from = chance.uniform(0, 36_000) if n < 40 else inf
        for at in range(60, 36_000, 300):
            log.append(line(n, LogEvent.ANSWER, at + n / 10, "t" if bad_from < at < bad_from + 2400 else ""))
        if n < 40:
            log += [line(n, LogEvent.DIAL, chance.uniform(60, 36_000)) for _ in range(60)]
    return reconstruct(log)


@pytest.mark.slow(seconds=2)
def test_the_planner_beats_round_robin_with_the_same_calls() -> None:
    log = traffic(1)
    in_turn, planned = (score(log, name, 0.2) for name in (BASELINE, "precall"))
    assert in_turn.dials == planned.dials > 1000
    assert 0 < planned.wrong < in_turn.wrong
    assert score(log, "precall", 0.2) == planned


@pytest.mark.slow(seconds=1)
def test_every_policy_is_scored_on_the_same_dials() -> None:
    log = traffic(2)
    assert len({score(log, name, 0.1).dials for name in POLICIES}) == 1


@pytest.mark.slow(seconds=2)
def test_refit_recovers_the_rates_of_the_log() -> None:
    chance = random.Random(3)
    log, hour = [], 3600.0
    for n in range(500):
        log.append(line(n, LogEvent.ADD, 0.0))
        at, face, turn = 0.0, "", chance.expovariate(1 / (4 * hour))
        for step in range(1, 240):
            at = step * 300.0
            while turn <= at:
                face = "" if face else "t"
                turn += chance.expovariate(1 / 1200 if face else 1 / (4 * hour))
            log.append(line(n, LogEvent.ANSWER, at, face))
        dial = 0.0
        while (dial := dial + chance.expovariate(1e-3)) < 20 * hour:
            log.append(line(n, LogEvent.DIAL, dial))
    fits = {fit.name: fit for fit in refit(reconstruct(log))}
    assert fits["lam, pool FC0"].fitted == pytest.approx(1 / (4 * hour), rel=0.25)
    assert fits["rho, trouble ends"].start == START_RECOVERY_RATE
    assert fits["rho, trouble ends"].fitted == pytest.approx(1 / 1200, rel=0.2)
    assert fits["nu, an abnormal route ends"].fitted == pytest.approx(1 / 1200, rel=0.2)
    assert fits["mu, age 180 min to 720 min"].fitted == pytest.approx(1e-3, rel=0.1)
    assert [fit.start for fit in fits.values() if fit.name.startswith("mu")] == list(START_DIAL_RATE)
