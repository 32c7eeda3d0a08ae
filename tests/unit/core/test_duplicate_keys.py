"""Repeated keys of one object are found at any depth and in any spelling, and nothing else is."""

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
def test_a_repeated_json_key_is_named(text: str, key: str) -> None:
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
def test_a_key_may_occur_in_several_objects(text: str) -> None:
    assert found(text) is None


def test_texts_without_repeated_keys_are_recognised_by_counting() -> None:
    for text in ('{"Code":"OK","DTO":{"Status":1}}', '{"at":"03:04:05", "n" : 1}'):
        assert not may_repeat(text.encode(), orjson.loads(text))


def test_a_contradiction_keeps_its_position_in_a_list() -> None:
    assert parsed('[{"a":1},{"b":1,"b":2},{"c":[{"d":1,"d":1}]},3]') == [
        {"a": 1},
        Contradiction("b"),
        Contradiction("d"),
        3,
    ]


def test_excessive_nesting_is_a_parse_error() -> None:
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
def test_no_serialized_value_has_repeated_keys(tree: Any, layout: tuple[str, str], escaped: bool) -> None:
    assert found(json.dumps(tree, separators=layout, ensure_ascii=escaped)) is None


@given(trees, keys, st.lists(trees, min_size=2, max_size=2), layouts)
def test_a_repeated_key_is_found_at_any_depth(
    tree: Any, key: str, values: list[Any], layout: tuple[str, str]
) -> None:
    twice = ",".join(f"{json.dumps(key)}:{json.dumps(value)}" for value in values)
    marker = "\x00here"
    for holder in ([tree, marker], {"x": tree, "y": marker}, {"x": [[marker]]}):
        text = json.dumps(holder, separators=layout).replace(json.dumps(marker), f"{{{twice}}}")
        assert found(text) == key
