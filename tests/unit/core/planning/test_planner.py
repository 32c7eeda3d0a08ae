"""The planner: no binding is lost, checked twice at once, or starved, and rates are learned."""

import json
import random
from itertools import pairwise
from math import inf

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from precall.core.model import Promise
from precall.core.planning.planner import LOST_AFTER, CheckKind, Planner
from precall.core.planning.promise import background_max_age
from tests.support.examples import examples

RATE = 20.0


def filled(
    count: int, *, rate: float = RATE, pools: int = 1, per_x: int = 1, checked: float = 0.0, **settings_
) -> Planner:
    """A planner with bindings "0".."n", all checked at `checked` and normal."""
    planner = Planner(rate, **settings_)
    for n in range(count):
        planner.add(
            str(n),
            checked,
            pool=f"P{n % pools}",
            x=f"X{n // per_x}",
            registered_at=checked,
            checked_at=checked,
            variant="",
        )
    return planner


def run(
    planner: Planner, start: float, seconds: float, *, rate: float = RATE, variant=lambda _: ""
) -> list[tuple[float, str]]:
    """Take and settle bindings at `rate`. Return (time, id) of each check."""
    done = []
    for tick in range(int(seconds * rate)):
        now = start + (tick + 1) / rate
        subs_id = planner.take(now)
        if subs_id is not None:
            planner.settle(subs_id, variant(subs_id), now)
            done.append((now, subs_id))
    return done


class Overlapping(RuleBasedStateMachine):
    """64 checks in flight, settles lost, late and doubled, non-answers, removals in flight, against a plain model."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0
        self.planner = Planner(RATE)
        self.known: dict[str, str] = {}
        self.flying: dict[str, float] = {}
        self.resting: set[str] = set()
        self.paused: set[str | None] = set()
        self.held: dict[str, float] = {}

    ids = st.integers(0, 80).map(str)
    pools = st.sampled_from(["A", "B"])

    @rule(
        subs_id=ids, pool=pools, x=st.integers(0, 9), fresh=st.booleans(), variant=st.sampled_from(["", "t1"])
    )
    def add(self, subs_id, pool, x, fresh, variant):
        checked_at = None if fresh else self.now - x * 50
        self.planner.add(
            subs_id,
            self.now,
            pool=pool,
            x=x,
            registered_at=self.now - 100,
            checked_at=checked_at,
            variant=variant,
        )
        self.forget(subs_id)
        self.known[subs_id] = pool

    def forget(self, subs_id):
        self.known.pop(subs_id, None)
        self.flying.pop(subs_id, None)
        self.resting.discard(subs_id)
        self.held.pop(subs_id, None)

    @rule(subs_id=ids)
    def remove(self, subs_id):
        self.planner.remove(subs_id)
        self.forget(subs_id)

    @rule(many=st.integers(1, 40))
    def take(self, many):
        for _ in range(many):
            if len(self.flying) >= 64:
                break
            subs_id = self.planner.take(self.now)
            if subs_id is None:
                break
            assert subs_id in self.known
            assert self.flying.get(subs_id, -inf) + LOST_AFTER <= self.now, "checked twice at once"
            assert self.held.pop(subs_id, -inf) <= self.now, "taken before its time"
            self.flying[subs_id] = self.now

    @rule(subs_id=ids)
    def demand(self, subs_id):
        busy = self.flying.get(subs_id, -inf) + LOST_AFTER > self.now
        got = self.planner.take_on_demand(subs_id, self.now)
        if subs_id not in self.known or busy:
            assert not got
        if got:
            self.held.pop(subs_id, None)
            self.flying[subs_id] = self.now

    @rule(subs_id=ids, variant=st.sampled_from(["", "t1", "t2"]), expired=st.booleans())
    def settle(self, subs_id, variant, expired):
        late = subs_id not in self.flying
        before = self.planner.explain(subs_id, self.now)
        self.planner.settle(subs_id, variant, self.now)
        self.planner.settle(subs_id, "doubled", self.now)
        if late:
            assert self.planner.explain(subs_id, self.now) == before
            return
        lost = self.flying.pop(subs_id) + LOST_AFTER <= self.now
        if expired and not lost:
            self.planner.rest(subs_id)
            self.resting.add(subs_id)
        elif not lost:
            self.resting.discard(subs_id)

    @rule(subs_id=ids, pause=st.floats(-5.0, 60.0))
    def release(self, subs_id, pause):
        known = subs_id in self.flying and self.flying[subs_id] + LOST_AFTER > self.now
        self.planner.release(subs_id, self.now + pause, self.now)
        if known:
            del self.flying[subs_id]
            if subs_id not in self.resting:
                self.held[subs_id] = self.now + pause

    @rule(
        subs_id=ids,
        after=st.floats(0.0, 60.0),
        kind=st.sampled_from([CheckKind.HINT, CheckKind.REPORT]),
    )
    def appoint(self, subs_id, after, kind):
        if subs_id not in self.held:
            self.planner.schedule(subs_id, self.now + after, kind=kind)

    @rule(pool=st.sampled_from([None, "A", "B"]), on=st.booleans())
    def pause(self, pool, on):
        if on:
            self.planner.pause(pool)
            self.paused.add(pool)
        else:
            self.planner.resume(pool)
            self.paused.discard(pool)

    @rule(subs_id=ids, verified=st.booleans())
    def dial(self, subs_id, verified):
        self.planner.dial(subs_id, self.now, verified=verified)
        assert 0.0 <= self.planner.wrong_now(subs_id, self.now) <= 1.0
        assert self.planner.worth_waiting(subs_id, self.now) in (True, False)

    @rule(subs_id=ids, ago=st.floats(0.0, 200.0), count=st.integers(0, 40))
    def dial_elsewhere(self, subs_id, ago, count):
        """A call whose route was kept, or `count` reads that a cache answered."""
        if count:
            dials = self.planner.dials_of_cache(subs_id, count, self.now - ago, self.now)
            assert dials in ((count - 1, count) if subs_id in self.known else (0,))
        else:
            dials = self.planner.dial_of_call(subs_id, self.now - ago, self.now)
            assert dials in ((0, 1) if subs_id in self.known else (0,))

    @rule(seconds=st.floats(0.0, 90.0))
    def wait(self, seconds):
        self.now += seconds

    @invariant()
    def counts(self):
        assert len(self.planner) == len(self.known)
        assert self.planner.oldest(self.now) >= 0.0
        json.dumps(self.planner.export())

    @precondition(lambda self: self.known)
    @rule()
    def nobody_is_lost(self):
        for pool in (None, "A", "B"):
            self.planner.resume(pool)
        self.paused.clear()
        self.now += LOST_AFTER + 61
        active = set(self.known) - self.resting
        seen = set()
        for _ in range(40 * len(self.known) + 40):
            self.now += 0.5
            subs_id = self.planner.take(self.now)
            if subs_id is not None:
                self.planner.settle(subs_id, "", self.now)
                self.resting.discard(subs_id)
                seen.add(subs_id)
        assert active <= seen
        self.flying.clear()
        self.held.clear()


TestOverlapping = Overlapping.TestCase
TestOverlapping.settings = settings(examples(40, 2000), stateful_step_count=40)


@pytest.mark.slow(seconds=3)
def test_an_overloaded_planner_keeps_the_staleness_bound():
    planner = filled(2000, max_age=300.0, pools=3)
    for n in range(40):
        for _ in range(50):
            planner.dial(str(n), 1.0, verified=False)
    worst = 0.0
    for second in range(0, 1500, 5):
        run(planner, float(second), 5)
        worst = max(worst, planner.oldest(second + 5.0))
    assert 100.0 < worst <= (4 + 2) * 2000 / RATE


@pytest.mark.slow
@pytest.mark.parametrize("checks", [0.3, 1.0])
@pytest.mark.parametrize("dials", [0, 5])
def test_the_bound_holds_under_a_flood_of_reads(checks, dials):
    """Readers take 70 % of the calls, always for the same few bindings; those they dial are worth most too."""
    planner, chance = filled(1000, pools=2), random.Random(1)
    worst, slots = 0.0, 0.0
    for tick in range(1, 12_000):
        now = tick / RATE
        slots += checks
        if slots >= 1:
            slots -= 1
            subs_id = planner.take(now)
        else:
            subs_id = str(tick % 10) if planner.take_on_demand(str(tick % 10), now) else None
            for _ in range(dials):
                planner.dial(str(chance.randrange(100)), now, verified=False)
        if subs_id is not None:
            planner.settle(subs_id, "", now)
        worst = max(worst, planner.oldest(now))
    assert worst <= (4 + 2) * 1000 / RATE


@given(
    count=st.integers(20, 120),
    live=st.floats(0.0, 0.7),
    hot=st.floats(0.02, 1.0),
    abnormal=st.floats(0.0, 0.5),
    seed=st.integers(0, 2**32),
)
@examples(8, 300)
def test_every_binding_is_checked_where_max_age_holds_for_dials_only(count, live, hot, abnormal, seed):
    """Dials of a hot part of the bindings take up to the readers' share of the calls, and trouble is anywhere."""
    chance = random.Random(seed)
    round_time, worst = count / RATE, 0.0
    planner = filled(
        count,
        pools=2,
        max_age=background_max_age(Promise.DIAL, 300.0),
        abnormal_max_age=round_time,
        min_interval=0.0,
        abnormal_min_interval=0.0,
    )
    # Variants that keep changing are worth most, and come again and again.
    variants = {str(n): ["", f"t{n}"] for n in range(count) if chance.random() < abnormal}
    for tick in range(1, 12 * count):
        now = tick / RATE
        wanted = str(chance.randrange(max(1, int(hot * count))))
        planner.dial(wanted, now, verified=chance.random() < live)
        if chance.random() < live:
            subs_id = wanted if planner.take_on_demand(wanted, now) else None
        else:
            subs_id = planner.take(now)
        if subs_id is not None:
            planner.settle(subs_id, chance.choice(variants.get(subs_id, [""])), now)
        worst = max(worst, planner.oldest(now))
    assert worst <= (planner.kappa + 2) * round_time


@pytest.mark.parametrize("kind", [CheckKind.HINT, CheckKind.REPORT, CheckKind.RETRY, CheckKind.CONFIRM])
def test_many_scheduled_checks_do_not_starve_value_and_sweep(kind):
    planner = filled(400, max_age=inf)
    for n in range(200):
        for k in range(60):
            planner.schedule(str(n), 10.0 + k, kind=kind)
    done = run(planner, 10.0, 60)
    others = [subs_id for _, subs_id in done if int(subs_id) >= 200]
    assert len(done) == 60 * RATE
    assert len(others) >= 0.3 * len(done)


def test_reports_get_a_twentieth_of_contended_calls():
    planner = filled(4000)
    for n in range(1000):
        planner.schedule(str(3000 + n), 1.0, kind=CheckKind.REPORT)
    called = 0
    for tick in range(50 * int(RATE)):
        now = 10.0 + (tick + 1) / RATE
        subs_id = planner.take(now)
        called += planner.kind(subs_id) is CheckKind.REPORT
        planner.settle(subs_id, "", now)
    assert 0.04 * 50 * RATE <= called <= 0.05 * 50 * RATE + 10


def test_a_first_check_comes_within_two_seconds_of_a_busy_planner():
    planner = filled(5000)
    run(planner, 0.0, 20)
    planner.add("new", 20.0, pool="P0", x="new", registered_at=20.0, checked_at=None, variant="")
    assert "new" in {subs_id for _, subs_id in run(planner, 20.0, 2)}


def test_min_interval_leaves_calls_unused():
    planner = filled(10)
    done = run(planner, 0.0, 60)
    assert len(done) == pytest.approx(10 * 60 / 5, abs=10)


def test_abnormal_min_interval_limits_checks():
    planner = filled(3)
    done = [
        now
        for now, subs_id in run(planner, 0.0, 200, variant=lambda i: "t" if i == "1" else "")
        if subs_id == "1"
    ]
    assert min(b - a for a, b in pairwise(done)) >= 29.999


def test_a_confirmation_and_the_first_report_ignore_the_min_interval():
    planner = filled(1)
    planner.take_on_demand("0", 10.0)
    planner.settle("0", "t", 10.0)
    planner.schedule("0", 12.0, kind=CheckKind.CONFIRM)
    assert planner.take(11.9) is None
    assert planner.take(12.0) == "0"
    planner.settle("0", "t", 12.0)
    planner.schedule("0", 14.0, kind=CheckKind.REPORT)
    assert planner.take(14.0) == "0"
    planner.settle("0", "t", 14.0)
    for kind in (CheckKind.REPORT, CheckKind.HINT):
        planner.schedule("0", 15.0, kind=kind)
    assert planner.take(15.0) is None
    assert planner.take(44.0) == "0"


def test_each_failed_call_on_a_normal_route_schedules_a_check():
    planner = filled(1, min_interval=100.0)
    for at in (10.0, 11.0, 11.5):
        planner.schedule("0", at, kind=CheckKind.REPORT)
        assert planner.take(at) == ("0" if at < 11.5 else None)
        planner.settle("0", "", at)
    assert planner.take(11.9) is None
    assert planner.take(12.0) == "0"


def test_an_answer_cancels_a_scheduled_check():
    planner = filled(2, min_interval=100.0)
    planner.schedule("0", 10.0, kind=CheckKind.HINT)
    planner.take_on_demand("0", 11.0)
    planner.settle("0", "", 11.0)
    assert planner.take(12.0) is None


def test_a_throttled_check_keeps_its_place():
    planner = Planner(RATE)
    for n in range(50):
        planner.add(str(n), 0.0, pool="P", x=n, registered_at=-90.0, checked_at=-float(n), variant="")
    first = planner.take(100.0)
    planner.release(first, 100.0, 100.0)
    assert planner.take(100.0) == first


def test_a_failed_check_backs_off_and_comes_back():
    planner = filled(1)
    assert planner.take(10.0) == "0"
    planner.release("0", 40.0, 10.0)
    assert planner.take(39.9) is None
    assert planner.explain("0", 20.0).kind is CheckKind.RETRY
    assert planner.explain("0", 20.0).next_at == 40.0
    assert planner.take(40.0) == "0"


def test_a_released_first_check_stays_a_first_check():
    planner = Planner(RATE)
    planner.add("0", 0.0, pool="P", x="X", registered_at=0.0, checked_at=None, variant="")
    assert planner.take(0.0) == "0"
    planner.release("0", 5.0, 0.0)
    assert planner.explain("0", 1.0).kind is CheckKind.FIRST
    assert planner.take(5.0) == "0"
    planner.release("0", 0.0, 5.0)
    assert planner.take(5.0) == "0"


def test_a_lost_check_comes_back():
    planner = filled(1)
    assert planner.take(10.0) == "0"
    assert planner.take(10.0 + LOST_AFTER - 0.1) is None
    assert planner.take(10.0 + LOST_AFTER) == "0"


def test_an_expired_binding_is_checked_only_if_scheduled():
    planner = filled(2)
    planner.take_on_demand("0", 10.0)
    planner.settle("0", "", 10.0)
    planner.rest("0")
    planner.schedule("0", 13.0, kind=CheckKind.CONFIRM)
    planner.schedule("0", 13.0, kind=CheckKind.HINT)
    assert "0" not in {subs_id for _, subs_id in run(planner, 10.0, 2.9)}
    assert "0" in {subs_id for _, subs_id in run(planner, 12.9, 0.2)}
    planner.rest("0")
    assert "0" not in {subs_id for _, subs_id in run(planner, 13.1, 600)}
    planner.schedule("0", 700.0, kind=CheckKind.GONE)
    assert planner.oldest(690.0) == pytest.approx(690.0 - planner.explain("1", 690.0).checked_at)
    assert "0" in {subs_id for _, subs_id in run(planner, 700.0, 5)}


def test_a_confirmation_without_an_answer_is_repeated():
    planner = filled(1)
    planner.take_on_demand("0", 10.0)
    planner.settle("0", "", 10.0)
    planner.rest("0")
    planner.schedule("0", 13.0, kind=CheckKind.CONFIRM)
    assert planner.take(13.0) == "0"
    planner.release("0", 20.0, 13.0)
    assert planner.take(19.0) is None
    assert planner.take(20.0) == "0"


def test_an_answer_to_a_removed_binding_is_dropped():
    planner = filled(1)
    assert planner.take(10.0) == "0"
    planner.remove("0")
    planner.settle("0", "t", 11.0)
    planner.add("0", 12.0, pool="P0", x="X0", registered_at=12.0, checked_at=12.0, variant="")
    planner.settle("0", "t", 13.0)
    assert planner.explain("0", 13.0).checked_at == 12.0


def test_pausing_a_pool_does_not_affect_others():
    planner = filled(40, pools=2)
    planner.pause("P1")
    assert {int(subs_id) % 2 for _, subs_id in run(planner, 0.0, 60)} == {0}
    assert planner.take_on_demand("1", 60.0)
    planner.settle("1", "", 60.0)
    assert planner.oldest(60.0) == 60.0
    planner.resume("P1")
    assert len({subs_id for _, subs_id in run(planner, 60.0, 60)}) == 40


def test_pausing_all_leaves_confirmations():
    planner = filled(5)
    planner.pause(None)
    planner.schedule("1", 20.0, kind=CheckKind.CONFIRM)
    assert {subs_id for _, subs_id in run(planner, 10.0, 60)} == {"1"}
    planner.resume(None)
    assert len({subs_id for _, subs_id in run(planner, 70.0, 60)}) == 5


def test_known_ages_at_restart_avoid_a_burst_of_checks():
    planner = Planner(RATE)
    for n in range(1000):
        planner.add(str(n), 0.0, pool="P", x=n, registered_at=-9000.0, checked_at=-float(n), variant="")
    first = [int(subs_id) for _, subs_id in run(planner, 0.0, 10)]
    assert min(first) > 700


@pytest.mark.slow(seconds=2)
def test_what_is_dialled_is_checked_more_often():
    planner = filled(1000, kappa=100.0, max_age=inf)
    for round_ in range(40):
        for n in range(50):
            planner.dial(str(n), round_ * 10.0, verified=False)
        run(planner, round_ * 10.0, 10)
    done = [int(subs_id) for _, subs_id in run(planner, 400.0, 200)]
    assert sum(n < 50 for n in done) > 0.15 * len(done)


@pytest.mark.slow(seconds=1)
def test_checks_are_worth_more_in_a_troubled_pool():
    planner = filled(400, pools=2, kappa=100.0, max_age=inf)
    trouble = {"n": 0}

    def variant(subs_id: str) -> str:
        trouble["n"] += 1
        # Rarely enough to be the pool's hazard; a fifth of its answers would be an outage.
        return "t" if int(subs_id) % 2 and trouble["n"] % 20 == 0 else ""

    run(planner, 0.0, 300, variant=variant)
    for n in (1000, 1001):
        planner.add(
            str(n), 300.0, pool=f"P{n % 2}", x=str(n), registered_at=200.0, checked_at=290.0, variant=""
        )
    assert planner.explain("1001", 300.0).weight > 4 * planner.explain("1000", 300.0).weight


def test_a_pool_outage_prioritizes_the_pool():
    planner = filled(3000, pools=10, checked=0.0)
    run(planner, 0.0, 200)
    down = lambda subs_id: "t" if int(subs_id) % 10 == 3 else ""  # noqa: E731
    done = [int(subs_id) for _, subs_id in run(planner, 200.0, 45, variant=down)]
    assert len({n for n in done if n % 10 == 3}) >= 240


def test_trouble_on_an_x_reaches_its_siblings_at_once():
    planner = filled(2000, pools=4, per_x=20)
    run(planner, 0.0, 60)
    down = lambda subs_id: "t" if int(subs_id) // 20 == 7 else ""  # noqa: E731
    planner.take_on_demand("140", 60.0)
    planner.settle("140", "t", 60.0)
    done = [int(subs_id) for _, subs_id in run(planner, 60.0, 3, variant=down)]
    assert len({n for n in done if n // 20 == 7}) >= 3


def test_siblings_confirm_each_other_only_where_trouble_is_shared():
    planner = filled(200, per_x=20)
    planner.take_on_demand("0", 600.0)
    planner.settle("0", "", 600.0)
    assert planner.wrong_now("1", 600.0) > 0
    for n in range(20, 40):
        planner.take_on_demand(str(n), 601.0)
        planner.settle(str(n), "t", 601.0)
    planner.take_on_demand("0", 602.0)
    planner.settle("0", "", 602.0)
    assert planner.wrong_now("1", 602.0) == 0.0
    assert planner.explain("1", 602.0).age == 602.0


def test_tables_survive_a_restart():
    planner = filled(300, pools=3)
    run(planner, 0.0, 300, variant=lambda i: "t" if int(i) % 3 == 1 else "")
    for n in range(200):
        planner.dial(str(n), 300.0, verified=n % 2 == 0)
    plain = json.loads(json.dumps(planner.export()))
    again = Planner(RATE, learned=plain)
    assert again.export() == plain
    for both in (planner, again):
        both.add("new", 400.0, pool="P1", x="X", registered_at=300.0, checked_at=350.0, variant="")
    assert again.wrong_now("new", 400.0) == planner.wrong_now("new", 400.0)
    assert again.wrong_now("new", 400.0) != filled(1).wrong_now("new", 400.0)


def test_tables_of_another_shape_are_refused():
    plain = Planner(RATE).export()
    plain["everywhere"]["mu"].pop()
    with pytest.raises(ValueError, match="shape"):
        Planner(RATE, learned=plain)


def test_counters_halve_once_a_day():
    planner = filled(100)
    run(planner, 0.0, 60, variant=lambda i: "t" if i == "1" else "")
    before = planner.export()["everywhere"]["lam"]
    assert planner.take(86_500.0) is not None
    # The export rounds to six digits.
    assert planner.export()["everywhere"]["lam"][0] == pytest.approx([n / 2 for n in before[0]], abs=1e-6)


@pytest.mark.slow(seconds=1)
def test_live_checks_are_granted_while_calls_are_left_and_rationed_otherwise():
    planner = filled(1000)
    assert planner.worth_waiting("1", 200.0)
    granted = 0
    for tick in range(1, 40_000):
        now = 200 + tick / 100
        subs_id = str(tick * 7919 % 1000)
        if planner.worth_waiting(subs_id, now) and planner.take_on_demand(subs_id, now):
            planner.settle(subs_id, "", now)
            granted += tick > 35_000
    assert granted / 50 <= 0.8 * RATE
    assert granted / 50 >= 0.5 * RATE


def test_the_same_events_give_the_same_plan():
    runs = []
    for _ in range(2):
        planner = filled(500, pools=5, per_x=7)
        runs.append(run(planner, 0.0, 120, variant=lambda i: "t" if int(i) % 11 == 3 else ""))
    assert runs[0] == runs[1]
