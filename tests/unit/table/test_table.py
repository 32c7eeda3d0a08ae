"""The table's own structure: ids in order in blocks, packed rows, finding by X."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from precall.core.model import Action, Binding, BindingState, NumberRole, Override, Row, State
from precall.core.numbers import canonical, key_of
from precall.core.packing import Packed, pack, unpack
from precall.table.table import Table

BINDING = Binding("7", "FC1", "17000000001", "13800000001", "13900000001", registered_at=1.5, generation=3)
ROW = Row(
    BINDING, BindingState(State.NORMAL, 1, "17000000001", checked_at=2.5, seq=4, request_id="R"), None, 1, 9
)


def a_row(n: int, **facts: Any) -> Row:
    return replace(ROW, binding=replace(BINDING, subs_id=f"{n:07}", **facts))


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 60)), max_size=200))
def test_pages_go_through_the_ids_in_order(moves: list[tuple[bool, int]]) -> None:
    table, known = Table(), set[str]()
    for add, n in moves:
        row = a_row(n)
        (known.add if add else known.discard)(row.binding.subs_id)
        table.publish(row.binding.subs_id, row if add else None)
    found, cursor = list[str](), ""
    while True:
        page = table.page(cursor, 7, lambda _row: True)
        assert len(page.rows) <= 7
        found += [row.binding.subs_id for row in page.rows]
        cursor = page.cursor
        if not cursor:
            break
    assert found == sorted(known)


@pytest.mark.parametrize(
    "row",
    [
        ROW,
        replace(ROW, state=BindingState()),
        replace(
            ROW,
            binding=replace(BINDING, expires_at=9.5, labels=(("city", "Hangzhou"),), extension="12"),
            state=BindingState(
                State.FALLBACK,
                status=3,
                extension="1",
                checked_at=2.5,
                seq=5,
                streak=6,
                temp_number="17100000001",
                temp_extension="2",
                temp_at=3.5,
                exposed_at=4.5,
                gone_at=5.5,
                blocked=True,
                failures=7,
                moves=(1.5, 2.5),
                request_id="R",
            ),
            override=Override(Action.HOLD, NumberRole.OWN, None, "because", 3, 1.5, "me"),
        ),
    ],
)
def test_packing_round_trips(row: Row) -> None:
    assert unpack("7", pack(row)) == row
    assert type(unpack("7", pack(row)).state.blocked) is bool


def test_a_new_row_is_small() -> None:
    assert len(pack(ROW)) < 160


def packed(row: Row) -> Packed:
    binding = row.binding
    return Packed(
        binding.subs_id, binding.pool_key, binding.number_x, row.state.state, row.state.blocked, pack(row)
    )


def test_loading_counts_as_publishing_does() -> None:
    rows = [
        a_row(1),
        a_row(2, pool_key="FC2"),
        replace(a_row(3), state=BindingState(State.EXPIRED)),
        replace(a_row(4), state=replace(ROW.state, blocked=True)),
        replace(a_row(5), state=BindingState(State.EXPIRED, blocked=True)),
    ]
    loaded, published = Table(), Table()
    loaded.load(map(packed, rows))
    for row in rows:
        published.publish(row.binding.subs_id, row)
    for table in (loaded, published):
        assert {state: table.count(state) for state in State if table.count(state)} == {
            State.NORMAL: 2,
            State.EXPIRED: 2,
            State.BLOCKED: 1,
        }
        assert (table.active("FC1"), table.active("FC2")) == (2, 1)
        assert [row for part in table.slices(2) for row in part] == rows
        assert table.by_x("+86 170-0000-0001") == rows


def test_pages_continue_and_end_with_an_empty_cursor() -> None:
    table = Table()
    table.load(packed(a_row(n)) for n in range(2500))
    found, cursor = list[Row](), ""
    while True:
        page = table.page(cursor, 999, lambda row: row.binding.subs_id.endswith("5"), scan=700)
        found += page.rows
        if not (cursor := page.cursor):
            break
    assert [row.binding.subs_id for row in found] == [f"{n:07}" for n in range(5, 2500, 10)]
    assert table.page("", 2500, lambda _row: True).cursor == ""
    assert table.page("9", 10, lambda _row: True).rows == []


def test_slices_tolerate_changes_in_between() -> None:
    table = Table()
    table.load(packed(a_row(n)) for n in range(0, 1000, 2))
    seen = []
    for part in table.slices(100):
        seen += [int(row.binding.subs_id) for row in part]
        table.publish(f"{seen[-1]:07}", None)
        if seen[-1] < 900:
            table.publish(f"{seen[-1] + 1:07}", a_row(seen[-1] + 1))
    assert set(range(0, 1000, 2)) <= set(seen)
    assert len(seen) == len(set(seen))


@pytest.mark.parametrize("number", ["17000000001", "+8617000000001", "0086 170-0000-0001", "017000000001"])
def test_equal_numbers_have_one_key(number: str) -> None:
    assert canonical(number) == "8617000000001"
    assert key_of(number) == key_of("17000000001")
    assert key_of(number) != key_of("17000000002")


def test_numbers_with_equal_keys_are_distinguished() -> None:
    table = Table()
    table.load([packed(a_row(1, number_x="0571")), packed(a_row(2, number_x="571"))])
    assert [row.binding.subs_id for row in table.by_x("571")] == ["0000002"]
    assert [row.binding.subs_id for row in table.by_x("0571")] == ["0000001"]
