"""The rows of a file of bindings: CSV with a header, JSON Lines or a JSON array, as spreadsheets write them.

Each row becomes a binding for the API, or an error that says what is wrong and what probably caused it. The models of
the API validate the rows, so that both sides agree.
"""

import csv
import difflib
import io
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import chain
from typing import Any, BinaryIO, TextIO, cast

from pydantic import ValidationError

from precall.api.problems import mistakes
from precall.api.schemas.bindings import ListedBinding
from precall.core.errors import Refusal

LABEL = "label."
EMPTY = "empty"
ERROR = "error"
"""A column in files of refused rows. It is ignored, so that a corrected file can be imported."""
COLUMNS = tuple(ListedBinding.model_fields)
REQUIRED = ("subs_id", "pool_key", "number_x", "number_a")
_EXACT = ("subs_id", "number_x", "number_a", "number_b", "extension")
"""Columns in which every digit matters."""

_NOT_UTF8 = (
    "is not Unicode text in UTF-8 (GBK, perhaps): save the file as UTF-8, or"
    " iconv -f GBK -t UTF-8 FILE | precall bindings import -"
)
_FILES = {
    b"PK\x03\x04": "is a workbook (.xlsx) or another archive: export the sheet as CSV UTF-8",
    b"\xd0\xcf\x11\xe0": "is a workbook (.xls): export the sheet as CSV UTF-8",
    b"\x1f\x8b": "is compressed: gunzip -c FILE | precall bindings import -",
    b"\x28\xb5\x2f\xfd": "is compressed: zstd -dc FILE | precall bindings import -",
}
_LIKELY = (
    (
        re.compile(r"[+-]?\d+([.,]\d+)?E[+-]?\d+", re.IGNORECASE),
        "a spreadsheet has rounded it, as to 1.38E+10: format the column as text there, and export it again",
    ),
    (
        re.compile(r"\d+[.,]0+"),
        "it went through a floating-point number, as to 610.0: write the column as text",
    ),
    (
        re.compile(r"['\u2018\u2019`].*"),
        "it begins with an apostrophe, which marks text in a spreadsheet: remove it",
    ),
    (re.compile(r"=.*"), 'it is a spreadsheet\'s formula, such as ="610": export values instead'),
    (
        re.compile(r"null|none|nan|nil|n/a|\\N|-", re.IGNORECASE),
        "where there is nothing, leave the cell empty",
    ),
)
_BLANK = re.compile(r"[ \t\r\n]*")


class FileFormat(StrEnum):
    """The format of a file."""

    CSV = "csv"
    JSONL = "jsonl"


@dataclass(frozen=True, slots=True)
class RowError:
    """A refused line. `column` is "" for the whole line. The text never repeats the content, which is in `row`."""

    line: int
    column: str
    text: str
    row: Any = field(default=None, repr=False)

    def __str__(self) -> str:
        place = f"line {self.line}, {self.column}" if self.column else f"line {self.line}"
        return f"{place}: {self.text}"


@dataclass(frozen=True, slots=True)
class BindingRow:
    """A binding as it is sent, its line number, and the row that it was read from."""

    number: int
    binding: dict[str, object] = field(repr=False)
    size: int
    row: Any = field(default=None, repr=False)


def text_of(raw: BinaryIO, called: str) -> TextIO:
    """Return a file as text, from UTF-8 or, as spreadsheets save it, UTF-16 or UTF-32. `called` names it in errors.

    Bytes outside UTF-8 become characters that no column accepts, so that only their line is refused. Raises Refusal for
    files that are not text.
    """
    head = raw.read(4)
    for magic, said in _FILES.items():
        if head.startswith(magic):
            raise Refusal(422, "no_text", f"{called} {said}")
    encoding = _encoding(head)
    whole = io.BufferedReader(cast("io.RawIOBase", _Prefixed(head, raw)))
    errors = "surrogateescape" if encoding == "utf-8-sig" else "replace"
    return io.TextIOWrapper(whole, encoding=encoding, errors=errors, newline="")


class BindingRows:
    """Iterates over the rows of `source`, each a BindingRow or a RowError.

    Without a `form`, the first text decides, or `else_form` for an empty source. Raises Refusal for an unusable CSV
    header, and with the code EMPTY if nothing tells the format.
    """

    def __init__(
        self,
        source: Iterable[str],
        form: FileFormat | None = None,
        else_form: FileFormat | None = FileFormat.CSV,
    ) -> None:
        source = iter(source)
        begun = list[str]()
        for line in source:
            begun.append(line)
            if line.strip():
                break
        first = begun[-1].strip() if begun else ""
        chosen = form or ((FileFormat.JSONL if first[0] in "{[" else FileFormat.CSV) if first else else_form)
        if chosen is None:
            raise Refusal(422, EMPTY, "there is not text in it")
        self.form = chosen
        self.header: list[str] = []
        lines = chain(begun, source)
        if self.form is FileFormat.CSV:
            self._rows = self._csv(lines, begun)
        else:
            self._rows = _json_array(lines) if first.startswith("[") else _json_lines(lines)

    def __iter__(self) -> Iterator[BindingRow | RowError]:
        return self._rows

    def _csv(self, lines: Iterator[str], begun: list[str]) -> Iterator[BindingRow | RowError]:
        """Read CSV. A column `label.KEY` holds a label, `labels` a JSON object of labels. Empty cells are none."""
        before = 0
        declared = re.fullmatch(r"sep=(.)\s*", begun[0], re.IGNORECASE) if begun else None
        if declared:  # as some spreadsheets declare the delimiter
            next(lines)
            before, delimiter = 1, declared[1]
        else:
            delimiter = _delimiter(begun[-1] if begun else "")
        reader = csv.reader(lines, strict=True, delimiter=delimiter)
        self.header = _header(reader, before)
        return _csv_rows(reader, _canonical(self.header), before)


def _encoding(head: bytes) -> str:
    if head.startswith((b"\xff\xfe\0\0", b"\0\0\xfe\xff")):
        return "utf-32"
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "utf-16"
    # Every valid file begins with ASCII.
    if len(head) == 4 and head[1] == head[3] == 0 and head[0]:
        return "utf-16-le"
    if len(head) == 4 and head[0] == head[2] == 0 and head[1]:
        return "utf-16-be"
    return "utf-8-sig"


class _Prefixed(io.RawIOBase):
    """A stream with its first bytes put back."""

    def __init__(self, head: bytes, rest: BinaryIO) -> None:
        self._head, self._rest = head, rest

    def readable(self) -> bool:
        return True

    def readinto(self, room: Any) -> int:
        data = self._head or self._rest.read1(len(room))  # type: ignore[attr-defined]
        taken = data[: len(room)]
        room[: len(taken)] = taken
        self._head = self._head[len(taken) :]
        return len(taken)


def _delimiter(header: str) -> str:
    """Return the delimiter that yields the most known column names."""

    def known(delimiter: str) -> int:
        names = [name.strip(' \t\r\n"').lower() for name in header.split(delimiter)]
        return sum(name in COLUMNS for name in names)

    return max(",;\t|", key=known)


def _header(reader: Iterator[list[str]], before: int) -> list[str]:
    place = f"line {before + 1}"
    try:
        header = [name.strip() for name in next(reader, [])]
    except csv.Error as error:
        raise Refusal(422, "bad_header", f"{place}: is not valid CSV ({error})") from None
    if any(_is_foreign(name) for name in header):
        raise Refusal(422, "bad_header", f"{place}: {_NOT_UTF8}")
    names = _canonical(header)
    for column, (shown, name) in enumerate(zip(header, names, strict=True), 1):
        if name in (*COLUMNS, ERROR, "") and any(names):
            continue
        if name.startswith(LABEL) and name != LABEL:
            continue
        # Without a header there are phone numbers here, which must not be repeated.
        what = repr(shown[:64]) if re.fullmatch(r"[^0-9]*", shown) else str(column)
        raise Refusal(
            422,
            "bad_header",
            f"{place} must name the columns: column {what} is not known; {_meant(name)}",
        )
    if missing := [name for name in REQUIRED if name not in names]:
        raise Refusal(422, "bad_header", f"{place}: the header lacks {', '.join(missing)}")
    given = [name for name in names if name]
    if len(set(given)) != len(given):
        raise Refusal(422, "bad_header", f"{place}: a column is named twice")
    return header


def _meant(name: str) -> str:
    if name[:1] in ("{", "["):
        return "this looks like JSON: give --format jsonl"
    if name.startswith("label_") and name != "label_":
        return f"did you mean {LABEL}{name.removeprefix('label_')}?"
    near = difflib.get_close_matches(re.sub(r"\W+", "_", name.lower()), COLUMNS, n=1)
    return f"did you mean {near[0]}?" if near else f"there are {', '.join(COLUMNS)} and label.KEY"


def _canonical(header: list[str]) -> list[str]:
    """Return the column names in lower case, except for the keys of labels."""
    names = []
    for name in header:
        low = name.lower()
        if low.startswith(LABEL):
            names.append(LABEL + name[len(LABEL) :])
        else:
            names.append(low if low in (*COLUMNS, ERROR) else name)
    return names


def _csv_rows(reader: Any, names: list[str], before: int) -> Iterator[BindingRow | RowError]:
    while True:
        number = before + reader.line_num + 1
        try:
            cells = [cell.strip() for cell in next(reader)]
        except StopIteration:
            return
        except csv.Error as error:
            # It is not known where the next row begins.
            yield RowError(number, "", f"is not valid CSV ({error}); nothing after it was read")
            return
        if not any(cells):  # an empty line, or cleared cells of a spreadsheet
            continue
        row = list(cells)
        while len(cells) > len(names) and not cells[-1]:
            cells.pop()
        if len(cells) != len(names):
            yield RowError(number, "", f"has {len(cells)} cells, the header has {len(names)}", row)
            continue
        if extra := [place for place, name in enumerate(names, 1) if not name and cells[place - 1]]:
            yield RowError(number, "", f"has text in column {extra[0]}, which the header does not name", row)
            continue
        yield _from_cells(number, dict(zip(names, cells, strict=True)), row)


def _from_cells(number: int, cells: dict[str, str], row: list[str]) -> BindingRow | RowError:
    cells.pop("", None)
    cells.pop(ERROR, None)
    binding: dict[str, object] = {
        name: cell for name, cell in cells.items() if not name.startswith("label") and cell
    }
    labels = {
        name.removeprefix(LABEL): cell for name, cell in cells.items() if name.startswith(LABEL) and cell
    }
    if packed := cells.get("labels"):
        try:
            unpacked = json.loads(packed)
        except (ValueError, RecursionError):
            unpacked = None
        if not isinstance(unpacked, dict):
            return RowError(number, "labels", 'is not a JSON object, such as {"city":"Hangzhou"}', row)
        labels = unpacked | labels
    if labels:
        binding["labels"] = labels
    return checked(number, binding, sum(map(len, cells.values())), row)


def _json_lines(lines: Iterator[str]) -> Iterator[BindingRow | RowError]:
    for number, text in enumerate(lines, 1):
        if not text.strip():
            continue
        try:
            value = json.loads(text)
        except json.JSONDecodeError as error:
            said = _NOT_UTF8 if _is_foreign(text) else f"is not valid JSON: {error.msg}"
            yield RowError(number, f"column {error.colno}", said, text.strip())
            continue
        except RecursionError:
            yield RowError(number, "", "is nested too deep", text.strip())
            continue
        yield _from_json(number, value, len(text))


def _json_array(lines: Iterator[str]) -> Iterator[BindingRow | RowError]:
    text = "".join(lines)
    decoder = json.JSONDecoder()
    place, number, counted = text.index("[") + 1, 1, 0
    while True:
        place = _after_blank(text, place)
        number, counted = number + text.count("\n", counted, place), place
        if text[place : place + 1] == "]":
            break
        try:
            value, end = decoder.raw_decode(text, place)
        except json.JSONDecodeError as error:
            yield RowError(number, "", f"is not valid JSON: {error.msg}; nothing after it was read")
            return
        except RecursionError:
            yield RowError(number, "", "is nested too deep; nothing after it was read")
            return
        yield _from_json(number, value, end - place)
        place = _after_blank(text, end)
        if text[place : place + 1] not in (",", "]"):
            yield RowError(number, "", "is followed by neither a comma nor ]; nothing after it was read")
            return
        place += text[place] == ","
    if text[place + 1 :].strip():
        yield RowError(number, "", "ends the array, but something follows; it was not read")


def _after_blank(text: str, place: int) -> int:
    found = _BLANK.match(text, place)
    return found.end() if found else place


def _from_json(number: int, value: object, size: int) -> BindingRow | RowError:
    if not isinstance(value, dict):
        return RowError(number, "", "is not a JSON object", value)
    names = _canonical(list(value))
    if len(set(names)) != len(names):
        return RowError(number, "", "names a column twice", value)
    binding = dict(zip(names, value.values(), strict=True))
    binding.pop(ERROR, None)
    return checked(number, binding, size, value)


def checked(number: int, binding: dict[str, object], size: int, row: Any = None) -> BindingRow | RowError:
    """Return the row if the model of the API accepts it, else its first mistake."""
    try:
        ListedBinding.model_validate(binding)
    except ValidationError as error:
        first = mistakes(error)[0]
        value = _value(binding, first.field)
        if _is_foreign(value):
            return RowError(number, first.field, _NOT_UTF8, row)
        likely = _likely(value)
        return RowError(number, first.field, f"{first.detail}; {likely}" if likely else first.detail, row)
    for column in _EXACT:  # a spreadsheet's damage may still look like a number
        if likely := _likely(str(binding.get(column, ""))):
            return RowError(number, column, likely, row)
    return BindingRow(number, binding, size, row)


def _value(binding: dict[str, object], place: str) -> str:
    """Return the text at a path such as "number_a" or "labels.city", "" if there is none."""
    found: object = binding
    for part in place.split(".", 1):
        found = found.get(part, "") if isinstance(found, dict) else ""
    return found if isinstance(found, str) else ""


def _likely(value: str) -> str:
    return next((said for form, said in _LIKELY if form.fullmatch(value.strip())), "")


def _is_foreign(text: str) -> bool:
    return any("\udc80" <= character <= "\udcff" for character in text)
