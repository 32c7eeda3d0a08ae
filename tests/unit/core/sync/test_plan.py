"""Sync plans: for any source and any bindings, removals are guarded, and bindings of the API are not changed."""

from collections.abc import Iterable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from precall.core.model import Binding
from precall.core.sync.columns import BadRow
from precall.core.sync.plan import EXAMPLES, Comparison, SyncOutcome, SyncPlan
from tests.support.builders import NOW, binding

IDS = st.integers(1, 40).map(str)
PASTS = (None, NOW - 10.0, NOW + 3600.0)


def row(subs_id: str = "1", **facts: object) -> Binding:
    """As read from the source, without the fields that precall adds."""
    plain: dict[str, object] = {"registered_at": 0.0, "generation": 0, "origin": "source", "subs_id": subs_id}
    return binding(**(plain | facts))


def known(subs_id: str = "1", **facts: object) -> Binding:
    return replace(row(subs_id, **facts), registered_at=NOW - 60.0, generation=7)


def over(one: Binding) -> bool:
    return one.expires_at is not None and one.expires_at <= NOW


def planned(
    current: Iterable[Binding],
    rows: Iterable[Binding | BadRow],
    max_removals: float = 0.05,
    *,
    force: bool = False,
) -> SyncPlan:
    there = {one.subs_id: one for one in current}
    compared = Comparison(there.get, over)
    for one in rows:
        compared.add_row(one)
    for one in there.values():
        compared.add_binding(one, live=not over(one))
    return compared.plan(max_removals, force=force)


def ids(bindings: Iterable[Binding]) -> set[str]:
    return {one.subs_id for one in bindings}


bindings_there = st.dictionaries(
    IDS,
    st.builds(known, origin=st.sampled_from(["source", "api"]), expires_at=st.sampled_from(PASTS)),
    max_size=40,
).map(lambda found: [replace(one, subs_id=subs_id) for subs_id, one in found.items()])
source_rows = st.lists(
    st.one_of(
        st.builds(
            row,
            IDS,
            number_x=st.sampled_from(["17000000001", "17000000002"]),
            expires_at=st.sampled_from(PASTS),
        ),
        st.builds(BadRow, st.one_of(IDS, st.just(""), st.none()), st.just("number_a"), st.just("is wrong")),
    ),
    max_size=60,
)


@given(bindings_there, source_rows, st.sampled_from([0.0, 0.05, 0.5, 1.0]), st.booleans())
def test_a_plan_satisfies_its_invariants_for_any_source(
    current: list[Binding], rows: list[Binding | BadRow], share: float, force: bool
) -> None:
    plan = planned(current, rows, share, force=force)
    owned = {one.subs_id: one for one in current if one.origin == "source"}
    foreign = ids(current) - set(owned)
    good = [one for one in rows if isinstance(one, Binding)]
    bad = {one.subs_id for one in rows if isinstance(one, BadRow)}
    moved = [ids(plan.added), ids(plan.updated), set(plan.removed), set(plan.withheld)]
    assert sum(map(len, moved)) == len(set().union(*moved))
    assert ids(plan.added) <= ids(good) - ids(current)
    assert ids(plan.updated) <= ids(good) & set(owned)
    gone = set(plan.removed) | set(plan.withheld)
    assert gone <= set(owned) - ids(good) - bad
    assert not foreign & set().union(*moved)
    assert not any(over(one) for one in plan.added)
    assert not plan.removed or not plan.withheld
    if force:
        assert not plan.withheld
    elif not rows:
        assert not plan.removed
    live_gone = [subs_id for subs_id in plan.removed if not over(owned[subs_id])]
    if len(live_gone) > 9 and not force:
        assert len(live_gone) <= share * sum(not over(one) for one in owned.values())
    if plan.withheld:
        assert not rows or None in bad or len(plan.withheld) > 9
    assert bool(plan.guard) == plan.guarded


@given(bindings_there, source_rows)
def test_applying_a_plan_twice_changes_nothing(current: list[Binding], rows: list[Binding | BadRow]) -> None:
    plan = planned(current, rows, force=True)
    after = {one.subs_id: one for one in current if one.subs_id not in plan.removed}
    after |= {one.subs_id: replace(one, registered_at=1.0, generation=9) for one in plan.added}
    after |= {
        one.subs_id: replace(one, registered_at=after[one.subs_id].registered_at, generation=8)
        for one in plan.updated
    }
    again = planned(after.values(), rows, force=True)
    assert (again.added, again.updated, again.removed) == ((), (), ())
    assert again.refused == plan.refused


def test_too_many_removals_are_withheld_unless_forced() -> None:
    current = [known(str(n)) for n in range(1, 1001)]
    rows = [row(str(n)) for n in range(52, 1001)] + [row("2000"), row("60", number_x="17000000009")]
    rows.remove(row("60"))
    plan = planned(current, rows)
    assert (plan.removed, len(plan.withheld), ids(plan.added), ids(plan.updated)) == (
        (),
        51,
        {"2000"},
        {"60"},
    )
    assert plan.guard == "51 of 1000 live bindings left the source (max_removals = 0.05)"
    assert len(planned(current, rows, force=True).removed) == 51
    assert len(planned(current, [*rows, row("51")]).removed) == 50


@pytest.mark.parametrize(("there", "left", "refused"), [(9, 0, 0), (10, 1, 0), (11, 1, 10), (200, 190, 0)])
def test_few_removals_are_allowed_except_for_an_empty_result(there: int, left: int, refused: int) -> None:
    current = [known(str(n)) for n in range(there)]
    plan = planned(current, [*(row(str(n)) for n in range(left)), BadRow("", "subs_id", "is empty")], 0.05)
    assert len(plan.withheld) == refused
    empty = planned(current, [])
    assert (empty.removed, empty.guard) == ((), "the query returned no rows")


def test_removals_of_expired_bindings_are_not_limited() -> None:
    current = [known(str(n), expires_at=NOW - 1.0) for n in range(50)] + [
        known(str(n)) for n in range(50, 100)
    ]
    plan = planned(current, [row(str(n)) for n in range(50, 100)])
    assert (len(plan.removed), plan.withheld) == (50, ())
    assert planned(current[:50], []) == SyncPlan()


def test_a_row_with_an_unreadable_id_prevents_removals() -> None:
    current = [known("1"), known("2")]
    plan = planned(current, [row("1"), BadRow(None, "subs_id", "is a floating-point number")])
    assert (plan.removed, plan.withheld) == ((), ("2",))
    assert planned(current, [row("1"), BadRow("", "subs_id", "is empty")]).removed == ("2",)


def test_contradicting_rows_keep_the_binding() -> None:
    one, other = row("1", number_x="17000000008"), row("1", number_x="17000000009")
    for rows in ([one, other], [other, one, one, other]):
        plan = planned([known("1")], rows)
        assert (plan.updated, plan.removed, plan.refused) == ((), (), 1)
    assert planned([], [one, one, one]).added == (one,)


def test_bindings_of_the_api_are_not_changed() -> None:
    plan = planned([known("1", origin="api"), known("2", origin="api")], [row("1", number_x="17000000009")])
    assert (plan.updated, plan.removed, plan.withheld, plan.refused) == ((), (), (), 1)
    assert "over the API" in plan.examples[0].text


def test_an_expiry_in_the_past_updates_known_bindings_only() -> None:
    ended = row("1", expires_at=NOW - 10.0)
    assert planned([known("1")], [ended]).updated == (ended,)
    plan = planned([], [ended])
    assert (plan.added, plan.expired) == ((), 1)


def test_counts_and_examples() -> None:
    plan = planned(
        [known("1")], [row("1"), row("2"), *(BadRow(str(n), "number_a", "x") for n in range(100, 150))]
    )
    assert len(plan.examples) == EXAMPLES
    assert plan.counts() == dict.fromkeys(SyncOutcome, 0) | {
        SyncOutcome.UNCHANGED: 1,
        SyncOutcome.ADDED: 1,
        SyncOutcome.REFUSED: 50,
    }
