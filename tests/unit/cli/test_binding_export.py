"""Exports: what is written can be imported as it was, and labels have columns of their own."""

import io
from typing import Any

import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st

from precall.cli.binding_export import write_csv, write_jsonl
from precall.cli.binding_rows import BindingRow, BindingRows, FileFormat
from precall.cli.options import label, label_filter

PLAIN: dict[str, Any] = {
    "subs_id": "1",
    "pool_key": "FC1",
    "number_x": "17000000001",
    "number_a": "13800000001",
    "number_b": "",
    "extension": "",
    "expires_at": "",
    "labels": {},
}
PRINTABLE = st.text(alphabet=st.characters(codec="utf-8", categories=("L", "N", "P", "S", "Zs")), max_size=12)
LABEL_TEXT = PRINTABLE.filter(str.isprintable)
LABELS = st.dictionaries(LABEL_TEXT.filter(bool), LABEL_TEXT, max_size=4)


def written(*bindings: dict[str, Any]) -> str:
    out = io.StringIO()
    assert write_csv(lambda: iter(bindings), out) == len(bindings)
    return out.getvalue()


def imported(text: str, form: FileFormat) -> list[dict[str, Any]]:
    rows = list(BindingRows(io.StringIO(text, newline=""), form))
    assert all(isinstance(row, BindingRow) for row in rows), rows
    return [PLAIN | row.binding for row in rows if isinstance(row, BindingRow)]


def test_each_label_has_a_column() -> None:
    text = written(
        PLAIN | {"labels": {"city": "Hangzhou"}},
        PLAIN | {"subs_id": "2", "labels": {"order": "7", "city": "Ulm"}},
    )
    assert text.splitlines() == [
        "subs_id,pool_key,number_x,number_a,number_b,extension,expires_at,label.city,label.order",
        "1,FC1,17000000001,13800000001,,,,Hangzhou,",
        "2,FC1,17000000001,13800000001,,,,Ulm,7",
    ]


def test_labels_that_no_cell_can_hold_are_exported_as_json() -> None:
    header, row = written(PLAIN | {"labels": {"vip": "", "city": "Ulm"}}).splitlines()
    assert header.endswith(",label.city,labels")
    assert row.endswith(',Ulm,"{""vip"": """"}"')


@given(st.lists(LABELS, min_size=1, max_size=4))
def test_an_export_imports_unchanged(labels: list[dict[str, str]]) -> None:
    bindings = [PLAIN | {"subs_id": str(number), "labels": one} for number, one in enumerate(labels, 1)]
    assert imported(written(*bindings), FileFormat.CSV) == bindings
    out = io.StringIO()
    write_jsonl(bindings, out)
    assert imported(out.getvalue(), FileFormat.JSONL) == bindings


@pytest.mark.parametrize(
    ("given", "asked"),
    [
        ("city=Hangzhou", "city=Hangzhou"),
        ("city=", "city="),
        ("url=http://a?b=c", "url=http://a?b=c"),
        ("city:Hangzhou", "city:Hangzhou"),
        ("city:a=b", "city:a=b"),
    ],
)
def test_a_filter_by_label_has_either_spelling(given: str, asked: str) -> None:
    assert label_filter(given) == asked


@pytest.mark.parametrize("given", ["city", "=Hangzhou", ":Hangzhou", ""])
def test_a_filter_without_a_key_or_a_value_is_a_usage_error(given: str) -> None:
    with pytest.raises(typer.BadParameter, match="KEY=VALUE"):
        label_filter(given)


def test_a_label_is_split_at_its_first_equals_sign() -> None:
    assert label("url=a=b:c") == ("url", "a=b:c")
