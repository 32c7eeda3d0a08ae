"""Which orders are in force: compared with a simple model that carries them out one after the other."""

from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from precall.core.orders import Order, OrderKind, in_force
from tests.support.builders import NOW, brake, order, pause
from tests.support.examples import examples

POOLS, IDS = ("", "FC1", "FC2"), ("1", "2")
ENDS_OF = {OrderKind.PAUSE: "resume", OrderKind.BRAKE: "release", OrderKind.OVERRIDE: "lift"}


@dataclass
class Model:
    """What is in force, changed by each order as it comes."""

    pools: dict[tuple[OrderKind, str], Order] = field(default_factory=dict)
    overrides: dict[str, Order] = field(default_factory=dict)

    def give(self, given: Order) -> None:
        if given.kind is OrderKind.OVERRIDE:
            self.overrides.pop(given.target, None)
            if given.action != "lift":
                self.overrides[given.target] = given
        elif given.action in ("pause", "engage"):
            self.pools[given.kind, given.target] = given
        else:
            for kind, pool in list(self.pools):
                if kind is given.kind and given.target in ("", pool):
                    del self.pools[kind, pool]

    def standing(self, generations: dict[str, int], now: float) -> set[int]:
        kept = [
            one
            for one in self.overrides.values()
            if generations.get(one.target) == one.generation and (one.until is None or now < one.until)
        ]
        return {one.id for one in (*self.pools.values(), *kept)}


def some_orders() -> st.SearchStrategy[list[Order]]:
    pools = st.builds(
        lambda kind, target, ends: order(
            kind, target, ENDS_OF[kind] if ends else {"pause": "pause", "brake": "engage"}[kind]
        ),
        st.sampled_from([OrderKind.PAUSE, OrderKind.BRAKE]),
        st.sampled_from(POOLS),
        st.booleans(),
    )
    overrides = st.builds(
        lambda target, action, generation, until: order(
            "override", target, action, generation=generation, until=until
        ),
        st.sampled_from(IDS),
        st.sampled_from(["hold", "dial_x", "lift"]),
        st.sampled_from([1, 2]),
        st.sampled_from([None, NOW - 1.0, NOW, NOW + 1.0]),
    )
    return st.lists(pools | overrides, max_size=12).map(
        lambda made: [
            order(one.kind, one.target, one.action, until=one.until, generation=one.generation, id=n)
            for n, one in enumerate(made, 1)
        ]
    )


def newest(given: list[Order]) -> list[Order]:
    """Those that the database returns: the newest for each target, and the newest that ended all."""
    heads = {(one.kind, one.target): one for one in given}
    ends = {one.kind: one for one in given if one.ends_all}
    return [*heads.values(), *(one for one in ends.values() if one not in heads.values())]


@given(
    some_orders(),
    st.dictionaries(st.sampled_from(IDS), st.sampled_from([1, 2])),
    st.randoms(use_true_random=False),
)
@examples(100, 5000)
def test_in_force_is_what_the_orders_leave_when_carried_out(
    given_: list[Order], generations: dict[str, int], chance: object
) -> None:
    model = Model()
    for one in given_:
        model.give(one)
    shuffled = list(given_)
    chance.shuffle(shuffled)  # type: ignore[attr-defined]
    for known in (given_, shuffled, newest(given_)):
        found = in_force(known, generations, NOW)
        assert [one.id for one in found] == sorted(model.standing(generations, NOW))


def test_an_order_for_all_pools_stands_beside_those_for_single_ones() -> None:
    both = [pause("", id=1), pause("FC1", id=2), pause("FC1", "resume", id=3)]
    assert in_force(both, {}, NOW) == both[:1]
    assert in_force([*both[:2], pause("", "resume", id=3)], {}, NOW) == []
    assert in_force([brake("", id=1), pause("", "resume", id=2)], {}, NOW) == [brake("", id=1)]


@pytest.mark.parametrize(("until", "stands"), [(None, True), (NOW + 0.001, True), (NOW, False)])
def test_an_override_ends_with_its_time(until: float | None, stands: bool) -> None:
    held = order("override", "1", "hold", until=until, generation=7, id=1)
    assert in_force([held], {"1": 7}, NOW) == ([held] if stands else [])
    assert in_force([held], {"1": 8}, NOW) == []
    assert in_force([held], {}, NOW) == []


def test_an_order_shows_no_reason_in_its_text_form() -> None:
    assert repr(pause(reason="asked by 13800000001", id=4)) == "Order(4, pause pause, target='FC1')"
