from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from precall.simulator.faults import FaultPlan
from precall.simulator.replies import BindingStatus
from precall.simulator.scenario import Binding, Fault, FaultKind, Pool, Scenario
from precall.simulator.temporary import TemporaryNumbers
from precall.simulator.world import NATURAL, World
from tests.support.examples import examples

START = 1_767_000_000.0


def world_of(*pools: Pool, bindings: tuple[Binding, ...] = (), seed: int = 1, speed: float = 1.0) -> World:
    scenario = Scenario(seed=seed, pools=pools, bindings=bindings)
    return World(scenario, FaultPlan(seed, speed), START, speed)


def world_with(fault: Fault, *pools: Pool) -> World:
    plan = FaultPlan(1, 1.0)
    plan.add(fault, START)
    return World(Scenario(pools=pools), plan, START, 1.0)


def statuses(world: World, now: float) -> list[object]:
    return [
        answer.status if isinstance(answer, BindingStatus) else answer
        for answer in (world.answer(binding.subs_id, binding.pool_key, now) for binding in world.bindings())
    ]


def ask(world: World, subs_id: str, now: float = START, pool_key: str = "P") -> BindingStatus:
    answer = world.answer(subs_id, pool_key, now)
    assert isinstance(answer, BindingStatus), answer
    return answer


healthy = Pool(pool_key="P", bindings=0, onset=0, lifetime=0)


def test_generated_numbers_are_distinct_and_well_formed() -> None:
    world = world_of(
        Pool(pool_key="P", bindings=2000, lifetime=0),
        Pool(pool_key="Q", bindings=2000, extension_digits=3, without_b=0.3),
    )
    bindings = list(world.bindings())
    assert len(bindings) == len(world) == 4000
    assert bindings[0].subs_id == "1000000000000001"
    numbers = [
        number for item in bindings for number in (item.number_x, item.number_a, item.number_b) if number
    ]
    assert len(set(numbers)) == len(numbers)
    assert {len(number) for number in numbers} == {11, 15}
    assert {(item.number_x[:4], item.number_a[:3], len(item.number_x)) for item in bindings} == {
        ("7001", "138", 15)
    }
    assert {len(item.extension) for item in bindings if item.pool_key == "Q"} == {3}
    assert 450 < sum(not item.number_b for item in bindings) < 750
    assert all((item.expires_at is None) == (item.pool_key == "P") for item in bindings)


def test_a_seed_is_a_world() -> None:
    pool = Pool(pool_key="P", bindings=50, onset=60, recovery=60, lifetime=600)
    first, again, other = world_of(pool), world_of(pool), world_of(pool, seed=2)
    assert list(first.bindings()) == list(again.bindings()) != list(other.bindings())
    late = statuses(again, START + 500)
    for now in range(0, 500, 10):
        statuses(first, START + now)
    expired = [status == 4 for status in statuses(first, START + 500)]
    assert expired == [status == 4 for status in late]
    assert [status == 1 for status in statuses(first, START + 500)] == [status == 1 for status in late]


def test_trouble_and_recovery_keep_their_means() -> None:
    world = world_of(
        Pool(pool_key="P", bindings=1000, temporary_numbers=1000, onset=300, recovery=100, lifetime=0)
    )
    shares = [statuses(world, START + now).count(2) / 1000 for now in range(2000, 4000, 500)]
    assert all(0.2 < share < 0.3 for share in shares)  # 100 / (300 + 100)


def test_speed_shortens_everything_alike() -> None:
    pool = Pool(pool_key="P", bindings=200, onset=100, recovery=50, lifetime=400)
    slow, fast = world_of(pool), world_of(pool, speed=10)
    for now in (50, 300, 1000):
        assert statuses(slow, START + now) == statuses(fast, START + now / 10)


@pytest.mark.slow(seconds=1)
def test_an_idle_binding_catches_up() -> None:
    pool = Pool(pool_key="P", bindings=20, onset=10, recovery=10, lifetime=0)
    idle, asked = world_of(pool), world_of(pool)
    for now in range(1000):
        statuses(asked, START + now)
    assert [status == 1 for status in statuses(idle, START + 1000)] == [
        status == 1 for status in statuses(asked, START + 1000)
    ]


def test_each_status_has_its_number() -> None:
    def scripted(status: object, **more: object) -> Binding:
        return Binding(
            subs_id=f"s{status}", pool_key="P", number_x="17000000001", extension="7", status=status, **more
        )

    world = world_of(
        Pool(pool_key="P", bindings=0), bindings=tuple(scripted(status) for status in (1, 2, 3, 4))
    )
    assert ask(world, "s1") == BindingStatus(1, "17000000001", "7")
    temporary = ask(world, "s2")
    assert (temporary.status, temporary.called_no[:4], temporary.extension) == (2, "7002", "7")
    assert ask(world, "s3") == BindingStatus(3, "")
    assert ask(world, "s4") == BindingStatus(4, "17000000001")


def test_a_binding_ends_at_its_expiry_with_a_number_in_the_answer() -> None:
    world = world_of(
        bindings=(Binding(subs_id="s", pool_key="P", number_x="17000000001", expires_at=START + 10),)
    )
    assert ask(world, "s", START + 9.9).status == 1
    assert ask(world, "s", START + 10) == BindingStatus(4, "17000000001")


@pytest.mark.parametrize("raw", [0, 5, "x", "2", None, 1.5])
def test_a_raw_status_is_sent_as_it_stands(raw: object) -> None:
    world = world_of(bindings=(Binding(subs_id="s", pool_key="P", number_x="17000000001"),))
    world.change("s", {}, {"status": raw})
    assert ask(world, "s") == BindingStatus(raw, "17000000001")


def test_business_codes() -> None:
    world = world_of(healthy, bindings=(Binding(subs_id="s", pool_key="Q"),))
    assert world.answer("s", "P", START) == "isv.POOLKEY_NOT_EXISTS"
    assert world.answer("s", "R", START) == "isv.POOLKEY_NOT_EXISTS"
    assert world.answer("t", "P", START) == "isv.SUBS_NOT_EXIST"
    assert ask(world, "s", pool_key="Q").status == 1
    world.change("s", {}, {"gone": True})
    assert world.answer("s", "Q", START) == "isv.SUBS_NOT_EXIST"


def test_a_change_lasts_until_the_next_one() -> None:
    world = world_of(Pool(pool_key="P", bindings=3, onset=0, lifetime=0))
    subs_id = next(world.bindings()).subs_id
    world.change(subs_id, {"extension": "12"}, {"status": 2, "called_no": "17100000009"})
    assert ask(world, subs_id) == BindingStatus(2, "17100000009", "12")
    world.change(subs_id, {"expires_at": START + 1}, {"status": NATURAL, "called_no": None})
    assert ask(world, subs_id).status == 1
    assert ask(world, subs_id, START + 1).status == 4
    assert len(list(world.bindings())) == len(world) == 3
    with pytest.raises(KeyError):
        world.change("unknown", {}, {})


def test_without_a_free_number_the_answer_is_fallback_until_one_comes_back() -> None:
    bindings = tuple(Binding(subs_id=name, pool_key="P", status=2) for name in "abc")
    world = world_of(Pool(pool_key="P", bindings=0, temporary_numbers=2), bindings=bindings)
    held = {ask(world, name).called_no for name in "ab"}
    assert len(held) == 2
    assert ask(world, "c") == BindingStatus(3, "")
    world.change("a", {}, {"status": 1})
    assert ask(world, "c").called_no in held


def test_an_expired_binding_gives_its_number_back_unasked() -> None:
    bindings = (
        Binding(subs_id="a", pool_key="P", status="natural", expires_at=START + 10),
        Binding(subs_id="b", pool_key="P", status="natural"),
    )
    plan = FaultPlan(1, 1.0)
    plan.add(Fault(kind=FaultKind.OUTAGE, for_=60), START)
    world = World(
        Scenario(pools=(Pool(pool_key="P", bindings=0, temporary_numbers=1),), bindings=bindings),
        plan,
        START,
        1.0,
    )
    number = ask(world, "a").called_no
    assert ask(world, "b", START + 9).status == 3
    assert ask(world, "b", START + 10).called_no == number


def test_a_number_comes_back_when_an_outage_is_called_off() -> None:
    bindings = tuple(Binding(subs_id=name, pool_key="P") for name in "ab")
    plan = FaultPlan(1, 1.0)
    plan.add(Fault(kind=FaultKind.OUTAGE), START)
    pool = Pool(pool_key="P", bindings=0, temporary_numbers=1)
    world = World(Scenario(pools=(pool,), bindings=bindings), plan, START, 1.0)
    assert ask(world, "a").status == 2
    plan.clear()
    assert ask(world, "a").status == 1
    world.change("b", {}, {"status": 2})
    assert ask(world, "b").status == 2


def test_truth_lends_nothing() -> None:
    bindings = tuple(Binding(subs_id=name, pool_key="P", status=2) for name in "ab")
    world = world_of(Pool(pool_key="P", bindings=0, temporary_numbers=1), bindings=bindings)
    first, second = world.bindings()
    assert world.truth(first, START) == world.truth(second, START) == BindingStatus(2, "")
    number = ask(world, "b").called_no
    assert world.truth(second, START) == BindingStatus(2, number)
    assert world.truth(first, START) == BindingStatus(3, "")


def test_sticky_numbers_stay_and_rotating_ones_change() -> None:
    def numbers(kind: str) -> list[str]:
        pool = Pool(pool_key="P", bindings=0, temporary_numbers=3, temporary=kind)
        world = world_of(pool, bindings=(Binding(subs_id="s", pool_key="P", status=2),))
        return [ask(world, "s").called_no for _ in range(4)]

    assert len(set(numbers("sticky"))) == 1
    rotating = numbers("rotating")
    assert len(set(rotating)) == 3
    assert all(one != other for one, other in pairwise(rotating))


def test_an_outage_strikes_its_share_of_its_pool_while_it_lasts() -> None:
    pools = [Pool(pool_key=key, bindings=500, onset=0, lifetime=0, temporary_numbers=500) for key in "PQ"]
    world = world_with(Fault(kind=FaultKind.OUTAGE, pool_key="P", share=0.4, at=10, for_=20), *pools)
    assert statuses(world, START + 9) == [1] * 1000
    during = statuses(world, START + 10)
    assert 160 < during[:500].count(2) < 240
    assert during[500:] == [1] * 500
    assert statuses(world, START + 29) == during
    assert statuses(world, START + 30) == [1] * 1000


def test_an_outage_without_numbers_answers_fallback() -> None:
    pool = Pool(pool_key="P", bindings=20, onset=0, lifetime=0)
    assert statuses(world_with(Fault(kind=FaultKind.OUTAGE, status=3), pool), START) == [3] * 20


def test_an_outage_strikes_bindings_scripted_as_normal_and_leaves_other_scripts_alone() -> None:
    plan = FaultPlan(1, 1.0)
    plan.add(Fault(kind=FaultKind.OUTAGE, for_=10), START)
    bindings = tuple(Binding(subs_id=str(status), pool_key="P", status=status) for status in (1, 2, 3, 4, 0))
    world = World(Scenario(bindings=bindings), plan, START, 1.0)
    assert statuses(world, START) == [2, 2, 3, 4, 0]
    assert ask(world, "1").called_no[:4] == "7002"
    assert statuses(world, START + 10) == [1, 2, 3, 4, 0]


def test_gone_bindings_are_the_same_at_every_question() -> None:
    world = world_with(Fault(kind=FaultKind.GONE, share=0.5), Pool(pool_key="P", bindings=200, onset=0))
    first = statuses(world, START)
    assert 70 < first.count("isv.SUBS_NOT_EXIST") < 130
    assert statuses(world, START) == first


@examples(100, 20_000)
@given(
    rotating=st.booleans(),
    steps=st.lists(
        st.tuples(st.sampled_from("abcdef"), st.sampled_from(["lend", "return"]), st.integers(0, 5)),
        max_size=60,
    ),
)
def test_a_temporary_number_is_never_lent_twice(rotating: bool, steps: list[tuple[str, str, int]]) -> None:
    numbers = TemporaryNumbers(["1", "2", "3"], rotating=rotating)
    held: dict[str, tuple[str, float]] = {}
    for now, (subs_id, step, length) in enumerate(steps):
        held = {name: entry for name, entry in held.items() if entry[1] > now}
        if step == "return":
            numbers.give_back(subs_id)
            held.pop(subs_id, None)
            continue
        number = numbers.lend(subs_id, now + length + 0.5, now)
        others = {entry[0] for name, entry in held.items() if name != subs_id}
        assert number not in others
        assert bool(number) == (len(others) < 3)
        if not rotating and subs_id in held:
            assert number == held[subs_id][0]
        if number:
            held[subs_id] = (number, now + length + 0.5)
        assert numbers.held_by(subs_id, now) == number
