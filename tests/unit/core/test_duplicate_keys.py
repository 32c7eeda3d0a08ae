"""A key that stands twice in one object is found at any depth and in any spelling; nothing else is taken for one."""

import json
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from precall.core.duplicate_keys import Contradiction, may_repeat, parsed, repeated_key


def found(text: str) -> str | None:
    return repeated_key(text.encode(), orjson.loads(text))


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ('{"a":1,"a":1}', "a"),
        ('{"a":1,"b":{"c":1,"c":2}}', "c"),
        ('{"a" : 1 ,\n"a"\t: 2}', "a"),
        ('{"a":1,"\\u0061":2}', "a"),
        ('[{"a":1},{"b":[[{"c":{"d":0,"d":0}}]]}]', "d"),
        ('{"a":":","a":":"}', "a"),
        ('{"":1,"":2}', ""),
        ('{"号":1,"号":2}', "号"),
        ('{"a":99999999999999999999999999,"a":1.5e300}', "a"),
    ],
)
def test_a_key_that_stands_twice_is_named(text: str, key: str) -> None:
    assert found(text) == key


@pytest.mark.parametrize(
    "text",
    [
        "{}",
        "[]",
        "7",
        '"a"',
        '{"a":{"a":{"a":1}}}',
        '[{"a":1},{"a":1}]',
        '{"a":"\\"a\\":1","b":": :"}',
        '{"a":"2026-01-02T03:04:05+08:00"}',
        '{"a":":x","b":"\\\\"}',
    ],
)
def test_a_key_that_stands_once_in_each_object_is_not(text: str) -> None:
    assert found(text) is None


def test_plain_texts_are_cleared_by_counting() -> None:
    for text in ('{"Code":"OK","DTO":{"Status":1}}', '{"at":"03:04:05", "n" : 1}'):
        assert not may_repeat(text.encode(), orjson.loads(text))


def test_the_place_of_a_contradiction_in_a_list_is_kept() -> None:
    assert parsed('[{"a":1},{"b":1,"b":2},{"c":[{"d":1,"d":1}]},3]') == [
        {"a": 1},
        Contradiction("b"),
        Contradiction("d"),
        3,
    ]


def test_what_is_nested_too_deeply_is_an_error_of_the_text() -> None:
    with pytest.raises(ValueError, match="deeply"):
        parsed("[" * 200_000)


keys = st.text(max_size=3) | st.sampled_from(['a":', '"', "\\", ":", "a"])
trees = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=4) | keys,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=4),
    max_leaves=12,
)
layouts = st.sampled_from([(",", ":"), (", ", ": "), (" ,\n", "\t:\r ")])


@given(trees, layouts, st.booleans())
def test_no_tree_that_python_can_hold_is_said_to_contradict_itself(
    tree: Any, layout: tuple[str, str], escaped: bool
) -> None:
    assert found(json.dumps(tree, separators=layout, ensure_ascii=escaped)) is None


@given(trees, keys, st.lists(trees, min_size=2, max_size=2), layouts)
def test_one_key_added_twice_is_found_wherever_it_is(
    tree: Any, key: str, values: list[Any], layout: tuple[str, str]
) -> None:
    twice = ",".join(f"{json.dumps(key)}:{json.dumps(value)}" for value in values)
    marker = "\x00here"
    for holder in ([tree, marker], {"x": tree, "y": marker}, {"x": [[marker]]}):
        text = json.dumps(holder, separators=layout).replace(json.dumps(marker), f"{{{twice}}}")
        assert found(text) == key
