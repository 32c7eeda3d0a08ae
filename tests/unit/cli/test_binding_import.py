"""What becomes of the lines of an import file before anything is sent."""

import io
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from precall.cli.binding_import import ImportChunk, batches
from precall.cli.binding_rows import BindingRow, BindingRows, FileFormat, RowError, text_of
from precall.cli.rejects import write_rejects
from precall.core.errors import Refusal

HEADER = "subs_id,pool_key,number_x,number_a,number_b,extension,expires_at,label.city\n"
GOOD = {"subs_id": "1", "pool_key": "FC1", "number_x": "17000000001", "number_a": "13800000001"}


def csv_of(*rows: str, header: str = HEADER) -> list[BindingRow | RowError]:
    return list(
        BindingRows(io.StringIO(header + "".join(f"{row}\n" for row in rows), newline=""), FileFormat.CSV)
    )


def jsonl_of(*texts: str) -> list[BindingRow | RowError]:
    return list(BindingRows(io.StringIO("\n".join(texts), newline=""), FileFormat.JSONL))


def test_a_csv_line_becomes_a_binding() -> None:
    [line] = csv_of("1,FC1,17000000001,13800000001,13900000001,12,2030-01-01T00:00:00Z,Hangzhou")
    assert isinstance(line, BindingRow)
    assert line.number == 2
    assert line.binding == GOOD | {
        "number_b": "13900000001",
        "extension": "12",
        "expires_at": "2030-01-01T00:00:00Z",
        "labels": {"city": "Hangzhou"},
    }


def test_empty_cells_are_left_out() -> None:
    [line] = csv_of("1,FC1,17000000001,13800000001,,,,")
    assert isinstance(line, BindingRow)
    assert line.binding == GOOD


def test_labels_may_be_a_json_object_and_columns_add_to_it() -> None:
    header = "subs_id,pool_key,number_x,number_a,labels,label.city\n"
    [line] = csv_of('1,FC1,17000000001,13800000001,"{""order"":""7""}",Ulm', header=header)
    assert isinstance(line, BindingRow)
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
def test_an_invalid_csv_line_names_line_and_column(row: str, column: str, text: str) -> None:
    before, bad, after = csv_of("1,FC1,17000000001,13800000001,,,,", row, "2,FC1,17000000001,13800000001,,,,")
    assert isinstance(before, BindingRow)
    assert isinstance(after, BindingRow)
    assert isinstance(bad, RowError)
    assert (bad.line, bad.column) == (3, column)
    assert text in bad.text.lower()
    assert "1380000" not in str(bad)


def test_lines_are_counted_across_quoted_line_breaks() -> None:
    _, second = csv_of('1,FC1,17000000001,13800000001,,,,"two\nlines"', "x,FC1,17000000001,13800000001,,,,")
    assert isinstance(second, RowError)
    assert second.line == 4


def test_an_unclosed_quote_ends_reading_with_an_error() -> None:
    *_, last = csv_of("1,FC1,17000000001,13800000001,,,,", '2,FC1,17000000001,13800000001,,,,"open')
    assert isinstance(last, RowError)
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
def test_an_unusable_header_is_refused(header: str, said: str) -> None:
    with pytest.raises(Refusal, match="line 1") as refused:
        csv_of("1,FC1,17000000001,13800000001", header=header)
    assert said in str(refused.value)
    assert "13800000001" not in str(refused.value)


@pytest.mark.parametrize(
    ("text", "column", "said"),
    [
        ("{", "column 2", "not valid JSON"),
        ("[]", "", "not a JSON object"),
        ("[" * 100_000, "", "nested too deep"),
        (json.dumps(GOOD | {"subs_id": 1}), "subs_id", "string"),
        (json.dumps(GOOD | {"colour": "red"}), "colour", "not known"),
        (json.dumps(GOOD | {"labels": {"a": 1}}), "labels.a", "string"),
    ],
)
def test_an_invalid_json_line_is_reported(text: str, column: str, said: str) -> None:
    first, bad = jsonl_of(json.dumps(GOOD), text)
    assert isinstance(first, BindingRow)
    assert isinstance(bad, RowError)
    assert (bad.line, bad.column) == (2, column)
    assert said in bad.text


def test_blank_json_lines_are_skipped_but_counted() -> None:
    first, second = jsonl_of(json.dumps(GOOD), "", json.dumps(GOOD))
    assert [line.number for line in (first, second) if isinstance(line, BindingRow)] == [1, 3]


@given(st.text(max_size=200))
def test_any_text_can_be_read_as_json_lines(text: str) -> None:
    assert all(isinstance(item, BindingRow | RowError) for item in jsonl_of(text))


@given(st.text(max_size=200))
def test_any_text_can_be_read_as_csv(text: str) -> None:
    assert all(isinstance(item, BindingRow | RowError) for item in csv_of(text))


def test_every_line_is_in_one_batch_and_a_mistake_stays_in_its_own() -> None:
    items: list[BindingRow | RowError] = [BindingRow(number, {}, 10) for number in range(2, 12_002)]
    items[7000] = RowError(7002, "number_a", "bad")
    cut = list(batches(items))
    assert [(b.first, b.last, len(b), len(b.mistakes)) for b in cut] == [
        (2, 5001, 5000, 0),
        (5002, 10_001, 5000, 1),
        (10_002, 12_001, 2000, 0),
    ]


def test_batches_stay_within_what_the_api_takes() -> None:
    cut: list[ImportChunk] = list(batches(BindingRow(number, {}, 1_000_000) for number in range(7)))
    assert [len(batch) for batch in cut] == [3, 3, 1]


# -- what spreadsheets and databases leave -----------------------------------------------------------


def rows_of(data: bytes, form: FileFormat | None = None) -> BindingRows:
    return BindingRows(text_of(io.BytesIO(data), "FILE"), form)  # type: ignore[arg-type]


TEXT = "subs_id,pool_key,number_x,number_a\r\n1,FC1,17000000001,13800000001\r\n"


@pytest.mark.parametrize(
    "data",
    [
        TEXT.encode(),
        TEXT.encode("utf-8-sig"),
        TEXT.encode("utf-16"),
        TEXT.encode("utf-16-le"),
        TEXT.encode("utf-16-be"),
        TEXT.encode("utf-32"),
        TEXT.replace(",", ";").encode(),
        TEXT.replace(",", "\t").encode("utf-16"),
        TEXT.replace(",", "|").encode(),
        f"sep=;\r\n{TEXT.replace(',', ';')}".encode(),
        TEXT.replace("subs_id", "SUBS_ID").replace("pool_key", " Pool_Key ").encode(),
        TEXT.replace("\r\n", ",,\r\n").encode(),
        TEXT.replace("1,FC1", ' 1\u00a0," FC1 "').encode(),
        f"{TEXT},,,\r\n , ,\t,\r\n,,,\r\n".encode(),
        json.dumps(GOOD).encode(),
        json.dumps(GOOD | {"error": "number_a: was wrong"}).encode(),
        json.dumps({name.upper(): value for name, value in GOOD.items()}).encode("utf-16"),
        json.dumps([GOOD]).encode(),
        json.dumps([GOOD], indent=4).encode("utf-8-sig"),
        TEXT.replace("number_a\r\n", "number_a,error\r\n").replace("01\r\n", "01,was wrong\r\n").encode(),
    ],
)
def test_the_same_binding_in_many_files(data: bytes) -> None:
    [line] = rows_of(data)
    assert isinstance(line, BindingRow)
    assert line.binding == GOOD


@pytest.mark.parametrize(
    ("text", "number"),
    [
        (f"sep=;\r\n{TEXT.replace(',', ';')}x;FC1;1;1\r\n", 4),
        (f"{TEXT},,,\r\nx,FC1,1,1\r\n", 4),
        (f"[\n{json.dumps(GOOD)},\n\n3]", 4),
        (f"{json.dumps(GOOD)}\n\n3", 3),
    ],
)
def test_lines_are_counted_in_every_form(text: str, number: int) -> None:
    *_, last = rows_of(text.encode())
    assert isinstance(last, RowError)
    assert last.line == number


@pytest.mark.parametrize(
    ("cell", "said"),
    [
        ("6.1E+12", "a spreadsheet has rounded it"),
        ("1,38E+10", "a spreadsheet has rounded it"),
        ("6100000000001.0", "a floating-point number"),
        ("'6100000000001", "an apostrophe"),
        ('="6100000000001"', "a spreadsheet's formula"),
        ("NULL", "leave the cell empty"),
    ],
)
@pytest.mark.parametrize("column", ["subs_id", "number_a", "number_b"])
def test_numbers_reformatted_by_a_spreadsheet_are_recognised(column: str, cell: str, said: str) -> None:
    for bad in (
        jsonl_of(json.dumps(GOOD | {column: cell})),
        list(rows_of(f"{';'.join((GOOD | {column: cell}).keys())}\n".encode() + b";".join(
            b'"' + value.replace('"', '""').encode() + b'"' for value in (GOOD | {column: cell}).values()))),
    ):  # fmt: skip
        [mistake] = bad
        assert isinstance(mistake, RowError)
        assert (mistake.column, said in mistake.text) == (column, True)
        assert "61000" not in str(mistake)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"PK\x03\x04abcdef", "FILE is a workbook"),
        (b"\x1f\x8b\x08abc", "FILE is compressed"),
        ("编号,pool_key,number_x,number_a\n".encode("gbk"), "GBK, perhaps"),
        (b"subs_id,pool_key,number_x,number_a,label_city\n", "did you mean label.city?"),
        (b"1;FC1;17000000001;13800000001\n", "line 1 must name the columns: column 1"),
    ],
)
def test_an_unreadable_file_names_the_likely_cause(data: bytes, said: str) -> None:
    with pytest.raises(Refusal) as refused:
        rows_of(data)
    assert said in str(refused.value)


def test_json_read_as_csv_is_recognised() -> None:
    with pytest.raises(Refusal, match="looks like JSON: give --format jsonl"):
        rows_of(b'{"subs_id":"1"}', FileFormat.CSV)


def test_a_label_in_another_encoding_is_named() -> None:
    header, row = TEXT.split("\r\n")[:2]
    [mistake] = rows_of(f"{header},label.city\n{row},杭州\n".encode("gbk"))
    assert isinstance(mistake, RowError)
    assert (mistake.column, "GBK, perhaps" in mistake.text) == ("labels.city", True)


@pytest.mark.parametrize(
    ("text", "said"),
    [("[{},", "nothing after it was read"), ("[{} {}]", "neither a comma"), ("[] 1", "something follows"),
     ("[" * 100_000, "nested too deep")],
)  # fmt: skip
def test_a_broken_array_says_where_reading_ended(text: str, said: str) -> None:
    *_, last = rows_of(text.encode())
    assert isinstance(last, RowError)
    assert said in last.text


def test_text_beyond_the_header_is_refused_and_empty_cells_are_not() -> None:
    bad, good = rows_of(f"{TEXT.replace('number_a', 'number_a,')}".replace("01\r\n", "01,x\r\n").encode()
                        + b"2,FC1,17000000001,13800000001,,,\r\n")  # fmt: skip
    assert isinstance(bad, RowError)
    assert "column 5, which the header does not name" in bad.text
    assert isinstance(good, BindingRow)


@pytest.mark.parametrize("form", list(FileFormat))
def test_rejected_rows_are_written_to_an_importable_file(tmp_path: Path, form: FileFormat) -> None:
    bad = GOOD | {"number_a": "1380000ABCD"}
    text = (
        f"{','.join(bad)},label.city\n{','.join(bad.values())},杭州\n1,FC1\n"
        if form is FileFormat.CSV
        else json.dumps(bad | {"labels": {"city": "杭州"}}, ensure_ascii=False) + "\n7\n"
    )
    rows = rows_of(text.encode())
    rejected = [row for row in rows if isinstance(row, RowError)]
    file = tmp_path / "rejected"
    write_rejects(file, form, rows.header, rejected)
    assert (len(rejected), file.stat().st_mode & 0o777) == (2, 0o600)
    assert "should be a phone number" in file.read_text()
    again, _ = rows_of(file.read_bytes().replace(b"ABCD", b"0001"))
    assert isinstance(again, BindingRow)
    assert again.binding == GOOD | {"labels": {"city": "杭州"}}
    write_rejects(
        file, form, (more := rows_of(file.read_bytes())).header, [m for m in more if isinstance(m, RowError)]
    )
    assert file.read_text().count("should be a phone number") == 1
