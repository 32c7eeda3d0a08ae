"""What becomes of the lines of an import file before anything is sent."""

import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from precall.cli.importing import Batch, batches
from precall.cli.rows import Form, Line, Mistake, Rows
from precall.core.errors import Refusal

HEADER = "subs_id,pool_key,number_x,number_a,number_b,extension,expires_at,label.city\n"
GOOD = {"subs_id": "1", "pool_key": "FC1", "number_x": "17000000001", "number_a": "13800000001"}


def csv_of(*rows: str, header: str = HEADER) -> list[Line | Mistake]:
    return list(Rows(io.StringIO(header + "".join(f"{row}\n" for row in rows), newline=""), Form.CSV))


def jsonl_of(*texts: str) -> list[Line | Mistake]:
    return list(Rows(io.StringIO("\n".join(texts), newline=""), Form.JSONL))


def test_a_csv_line_becomes_a_binding() -> None:
    [line] = csv_of("1,FC1,17000000001,13800000001,13900000001,12,2030-01-01T00:00:00Z,Hangzhou")
    assert isinstance(line, Line)
    assert line.number == 2
    assert line.binding == GOOD | {
        "number_b": "13900000001",
        "extension": "12",
        "expires_at": "2030-01-01T00:00:00Z",
        "labels": {"city": "Hangzhou"},
    }


def test_empty_cells_are_left_out() -> None:
    [line] = csv_of("1,FC1,17000000001,13800000001,,,,")
    assert isinstance(line, Line)
    assert line.binding == GOOD


def test_labels_may_be_a_json_object_and_columns_add_to_it() -> None:
    header = "subs_id,pool_key,number_x,number_a,labels,label.city\n"
    [line] = csv_of('1,FC1,17000000001,13800000001,"{""order"":""7""}",Ulm', header=header)
    assert isinstance(line, Line)
    assert line.binding["labels"] == {"order": "7", "city": "Ulm"}


@pytest.mark.parametrize(
    ("row", "column", "text"),
    [
        ("x1,FC1,17000000001,13800000001,,,,", "subs_id", "match"),
        ("1,FC1,17000000001,1380000ABCD,,,,", "number_a", "phone number"),
        ("1,FC1,1.7E+10,13800000001,,,,", "number_x", "phone number"),
        ("1,FC1,17000000001,138*****001,,,,", "number_a", "masked"),
        ("1,FC1,,13800000001,,,,", "number_x", "required"),
        ("1,FC1,17000000001,13800000001,,,2030-01-01 00:00,", "expires_at", "zone"),
        ("1,FC1,17000000001,13800000001,,,,\udc80", "labels.city", "unicode"),
        ("1,FC1,17000000001", "", "3 cells"),
    ],
)
def test_a_bad_csv_line_names_line_and_column_and_repeats_nothing(row: str, column: str, text: str) -> None:
    before, bad, after = csv_of("1,FC1,17000000001,13800000001,,,,", row, "2,FC1,17000000001,13800000001,,,,")
    assert isinstance(before, Line)
    assert isinstance(after, Line)
    assert isinstance(bad, Mistake)
    assert (bad.line, bad.column) == (3, column)
    assert text in bad.text.lower()
    assert "1380000" not in str(bad)


def test_lines_are_counted_across_quoted_line_breaks() -> None:
    _, second = csv_of('1,FC1,17000000001,13800000001,,,,"two\nlines"', "x,FC1,17000000001,13800000001,,,,")
    assert isinstance(second, Mistake)
    assert second.line == 4


def test_an_open_quote_ends_the_reading_and_says_so() -> None:
    *_, last = csv_of("1,FC1,17000000001,13800000001,,,,", '2,FC1,17000000001,13800000001,,,,"open')
    assert isinstance(last, Mistake)
    assert (last.line, "nothing after it was read" in last.text) == (3, True)


@pytest.mark.parametrize(
    ("header", "said"),
    [
        ("subs_id,pool_key,number_x,numbera\n", "did you mean number_a?"),
        ("subs_id,pool_key,number_x\n", "lacks number_a"),
        ("subs_id,subs_id,pool_key,number_x,number_a\n", "named twice"),
        ("\n", "lacks subs_id, pool_key, number_x, number_a"),
        ("", "column 1 is not known"),
    ],
)
def test_a_header_that_cannot_be_used_is_refused(header: str, said: str) -> None:
    with pytest.raises(Refusal, match="line 1") as refused:
        csv_of("1,FC1,17000000001,13800000001", header=header)
    assert said in str(refused.value)
    assert "13800000001" not in str(refused.value)


@pytest.mark.parametrize(
    ("text", "column", "said"),
    [
        ("{", "column 2", "no JSON"),
        ("[]", "", "no JSON object"),
        ("[" * 100_000, "", "nested too deep"),
        (json.dumps(GOOD | {"subs_id": 1}), "subs_id", "string"),
        (json.dumps(GOOD | {"colour": "red"}), "colour", "not known"),
        (json.dumps(GOOD | {"labels": {"a": 1}}), "labels.a", "string"),
    ],
)
def test_a_bad_json_line(text: str, column: str, said: str) -> None:
    first, bad = jsonl_of(json.dumps(GOOD), text)
    assert isinstance(first, Line)
    assert isinstance(bad, Mistake)
    assert (bad.line, bad.column) == (2, column)
    assert said in bad.text


def test_blank_json_lines_are_passed_over_and_counted() -> None:
    first, second = jsonl_of(json.dumps(GOOD), "", json.dumps(GOOD))
    assert [line.number for line in (first, second) if isinstance(line, Line)] == [1, 3]


@given(st.text(max_size=200))
def test_no_text_breaks_the_reading_of_json_lines(text: str) -> None:
    assert all(isinstance(item, Line | Mistake) for item in jsonl_of(text))


@given(st.text(max_size=200))
def test_no_text_breaks_the_reading_of_csv(text: str) -> None:
    assert all(isinstance(item, Line | Mistake) for item in csv_of(text))


def test_every_line_is_in_one_batch_and_a_mistake_stays_in_its_own() -> None:
    items: list[Line | Mistake] = [Line(number, {}, 10) for number in range(2, 12_002)]
    items[7000] = Mistake(7002, "number_a", "bad")
    cut = list(batches(items))
    assert [(b.first, b.last, len(b), len(b.mistakes)) for b in cut] == [
        (2, 5001, 5000, 0),
        (5002, 10_001, 5000, 1),
        (10_002, 12_001, 2000, 0),
    ]


def test_batches_stay_within_what_the_api_takes() -> None:
    cut: list[Batch] = list(batches(Line(number, {}, 1_000_000) for number in range(7)))
    assert [len(batch) for batch in cut] == [3, 3, 1]
