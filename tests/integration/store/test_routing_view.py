"""The view `routing_table` shows SQL readers what `decide` returns for a reader without a caller."""

import time
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given
from hypothesis import strategies as st

from precall.core.model import Action, Binding, BindingState, NumberRole, Override, Policy, Row, State
from precall.core.routing.route import decide, withhold
from precall.store import Store
from tests.integration.store.test_store import a_change, a_removal
from tests.support.builders import A, B, X, binding, brake, observed
from tests.support.examples import examples
from tests.support.postgres import sql

# Times are far from every limit, so the moment of the query does not matter.
AGES = [20.0, 200.0, 450.0, 650.0, 800.0, 2000.0, 50_000.0, 200_000.0]
LIMITS = st.sampled_from([100.0, 300.0, 600.0, 1000.0, 10_000.0, 100_000.0])
NUMBERS = [
    X,
    "+8617000000001",
    "0086 170 0000 0001",
    "86-17000000001",
    "017000000001",
    "(170)\t0000\u00a00001",
    "17100000001",
    "+8617100000001",
    "700123456789012",
    "+86700123456789012",
    "95555",
]

number = st.sampled_from(["", *NUMBERS])
extension = st.sampled_from(["", "7", "800"])
policies = st.builds(
    Policy,
    unverified=st.sampled_from([Action.DIAL_X, Action.HOLD]),
    fallback=st.sampled_from([Action.DIAL_REAL, Action.HOLD]),
    confirm_real=st.integers(1, 3),
    temporary_ttl=LIMITS,
    real_ttl=LIMITS,
    x_ttl=LIMITS,
    skew=st.sampled_from([0.0, 5.0, 1000.0]),
    max_age=LIMITS,
    abnormal_max_age=LIMITS,
    observe=st.sampled_from([frozenset(), frozenset({"FC1"}), frozenset({"*"}), frozenset({"FC3"})]),
)


@st.composite
def rows(draw: st.DrawFn, now: float) -> list[Row]:
    def ago(*others: float) -> float:
        past = draw(st.sampled_from([*AGES, *others]))
        return now - past if past else 0.0

    def one(at: int) -> Row:
        ends = draw(st.sampled_from([None, now - 100.0, now + 100.0, now + 5000.0]))
        facts = Binding(
            str(at), draw(st.sampled_from(["FC1", "FC2"])), draw(st.sampled_from(NUMBERS)), A,
            draw(st.sampled_from(["", B])), draw(extension), ends, (), "api", ago(), draw(st.integers(1, 2)),
            draw(st.sampled_from([True, True, True, False])),
        )  # fmt: skip
        state = BindingState(
            draw(st.sampled_from([state for state in State if state is not State.BLOCKED])),
            draw(st.integers(0, 4)), draw(number), draw(extension), ago(0.0), 1, draw(st.integers(0, 3)),
            draw(number), draw(extension), ago(0.0), ago(0.0), 0.0, draw(st.booleans()), 0,
            tuple(sorted(ago() for _ in range(draw(st.integers(0, 5))))),
        )  # fmt: skip
        order = None
        if draw(st.booleans()):
            until = draw(st.sampled_from([None, now - 100.0, now + 100.0]))
            action = draw(st.sampled_from([Action.HOLD, Action.DIAL_X, Action.DIAL_TEMP_X]))
            order = Override(
                action, draw(st.sampled_from(NumberRole)), until, "", draw(st.integers(1, 2)), 1.0
            )
        return Row(facts, state, order, draw(st.integers(1, 9)), at)

    return [one(at) for at in range(1, 1 + draw(st.integers(1, 12)))]


@pytest.fixture
async def store(store_url: str) -> AsyncIterator[Store]:
    opened = await Store.open(store_url, timeout=20.0, auto_migrate=True)
    yield opened
    await opened.close()


def view(url: str) -> dict[str, list[str]]:
    """All rows of the view as text: action, number, extension, stale_after, expires_at, version."""
    return {subs_id: rest for subs_id, *rest in sql(url, "SELECT * FROM routing_table")}


def expected(
    row: Row, policy: Policy, now: float, *, halted: bool
) -> tuple[str, str, str, bool, float | None, int]:
    route = withhold(decide(row, "", policy, now, halted=halted))
    return (route.action.value, route.number, route.extension, route.stale, route.expires_at, route.version)


@pytest.mark.slow
@given(data=st.data(), policy=policies, halted=st.sampled_from([None, "", "FC1", "FC2"]))
@examples(25, 2000, HealthCheck.function_scoped_fixture)
async def test_the_view_agrees_with_decide(
    data: st.DataObject, policy: Policy, halted: str | None, store: Store, store_url: str
) -> None:
    now = time.time()
    made = data.draw(rows(now))
    sql(
        store_url, "DELETE FROM bindings", "DELETE FROM routes", "DELETE FROM overrides", "DELETE FROM orders"
    )
    await store.commit([a_change(row) for row in made])
    await store.store_policy(policy, 1.0)
    if halted is not None:
        await store.orders.give(brake(halted))

    shown = view(store_url)
    assert set(shown) == {row.binding.subs_id for row in made}
    for row in made:
        action, number_, extension_, stale_after, expires_at, version = shown[row.binding.subs_id]
        stale = bool(stale_after) and now > float(stale_after)
        ends = float(expires_at) if expires_at else None
        stopped = halted is not None and halted in ("", row.binding.pool_key)
        assert (action, number_, extension_, stale, ends, int(version)) == expected(
            row, policy, now, halted=stopped
        )
        assert number_ not in (A, B)


def at_present(state: State, **facts: object) -> Row:
    """A row of this moment in a state that came 1 s ago."""
    now = time.time()
    seen = observed(state)
    late = {name: now - 1.0 for name in ("checked_at", "temp_at", "exposed_at") if getattr(seen, name)}
    return Row(replace(binding(expires_at=now + 3600.0), **facts), replace(seen, **late), None, 1, 1)


@pytest.mark.parametrize(
    ("state", "action", "number_"),
    [
        (State.UNVERIFIED, "dial_x", X),
        (State.NORMAL, "dial_x", X),
        (State.TEMPORARY, "dial_temp_x", "17100000001"),
        (State.FALLBACK, "dial_real", ""),
        (State.EXPIRED, "expired", ""),
    ],
)
async def test_the_view_shows_each_state_without_real_numbers(
    store: Store, store_url: str, state: State, action: str, number_: str
) -> None:
    await store.commit([a_change(at_present(state))])
    await store.store_policy(Policy(), 1.0)
    ((_, *found),) = sql(store_url, "SELECT * FROM routing_table")
    assert found[:2] == [action, number_]


async def test_an_override_dials_a_number_of_its_binding(store: Store, store_url: str) -> None:
    now = time.time()
    made = []
    for state in (State.NORMAL, State.TEMPORARY, State.UNVERIFIED):
        for action in (Action.HOLD, Action.DIAL_X, Action.DIAL_TEMP_X):
            for means in NumberRole:
                found = at_present(state, subs_id=str(len(made)))
                named = replace(found.state, number="17000000009" if state is State.NORMAL else "")
                order = Override(action, means, None, "", 1, 1.0)
                made.append(replace(found, state=named, override=order, index=len(made) + 1))
    await store.commit([a_change(row) for row in made])
    await store.store_policy(Policy(), 1.0)
    shown = view(store_url)
    for row in made:
        route = decide(row, "", Policy(), now)
        assert shown[row.binding.subs_id][:2] == [route.action.value, route.number]
    assert {row[1] for row in shown.values()} == {"", X, "17000000009", "17100000001"}


async def test_a_binding_that_is_not_sound_is_held(store: Store, store_url: str) -> None:
    rows = [
        at_present(state, subs_id=state.value, sound=False) for state in State if state is not State.BLOCKED
    ]
    await store.commit([a_change(replace(row, index=at)) for at, row in enumerate(rows, 1)])
    await store.store_policy(Policy(), 1.0)
    shown = view(store_url)
    assert {subs_id: one[:2] for subs_id, one in shown.items()} == {
        row.binding.subs_id: ["expired" if row.state.state is State.EXPIRED else "hold", ""] for row in rows
    }


async def test_without_a_policy_nothing_is_dialled(store: Store, store_url: str) -> None:
    row = at_present(State.NORMAL)
    await store.commit([a_change(row)])
    assert view(store_url)[row.binding.subs_id][:3] == ["hold", "", ""]
    await store.store_policy(Policy(), 1.0)
    assert view(store_url)[row.binding.subs_id][:2] == ["dial_x", X]


async def test_an_observed_pool_dials_x_as_long_as_it_is_observed(store: Store, store_url: str) -> None:
    rows = [at_present(state, subs_id=state.value) for state in State if state is not State.BLOCKED]
    rows.append(at_present(State.FALLBACK, subs_id="elsewhere", pool_key="FC2"))
    await store.commit([a_change(replace(row, index=at)) for at, row in enumerate(rows, 1)])
    observing = Policy(observe=frozenset({"FC1"}))
    await store.store_policy(observing, 1.0)
    shown = view(store_url)
    assert shown.pop("elsewhere")[:2] == ["dial_real", ""]
    assert {tuple(one[:2]) for one in shown.values()} == {("dial_x", X)}
    await store.store_policy(replace(observing, observe=frozenset({"FC1", "*"})), 2.0)
    assert view(store_url)["elsewhere"][:2] == ["dial_x", X]
    await store.store_policy(Policy(), 3.0)
    assert {one[0] for one in view(store_url).values()} == {
        "dial_x", "dial_temp_x", "dial_real", "expired",
    }  # fmt: skip
    kept = sql(store_url, "SELECT pool_key, since, until FROM observed_pools ORDER BY id")
    assert [[pool_key, float(since), float(until)] for pool_key, since, until in kept] == [
        ["FC1", 1.0, 3.0],
        ["*", 2.0, 3.0],
    ]


async def test_a_removed_binding_is_not_in_the_view(store: Store, store_url: str) -> None:
    row = at_present(State.NORMAL)
    await store.store_policy(Policy(), 1.0)
    await store.commit([a_change(row)])
    await store.commit([a_removal(row, 2)])
    assert view(store_url) == {}


async def test_releasing_all_brakes_releases_each_in_the_view(store: Store, store_url: str) -> None:
    row = at_present(State.FALLBACK)
    await store.commit([a_change(row)])
    await store.store_policy(Policy(), 1.0)
    await store.orders.give(brake())
    assert view(store_url)[row.binding.subs_id][0] == "hold"
    await store.orders.give(brake("", "release"))
    assert view(store_url)[row.binding.subs_id][0] == "dial_real"


async def test_a_row_of_the_view_is_found_by_its_key(store: Store, store_url: str) -> None:
    """And not by reading the table."""
    many = [
        replace(at_present(State.NORMAL, subs_id=str(at), generation=at), index=at) for at in range(1, 3000)
    ]
    await store.commit([a_change(row) for row in many])
    await store.store_policy(Policy(), 1.0)
    if store_url.startswith("postgresql"):
        sql(store_url, "ANALYZE")
        (plan,) = ("\n".join(line[0] for line in sql(store_url, f"EXPLAIN {ONE}")),)
        assert "Seq Scan on bindings" not in plan
        assert "Seq Scan on routes" not in plan
    else:
        plan = "\n".join(line[-1] for line in sql(store_url, f"EXPLAIN QUERY PLAN {ONE}"))
        assert "SCAN b" not in plan
        assert "SCAN r" not in plan


ONE = "SELECT * FROM routing_table WHERE subs_id = '77'"
