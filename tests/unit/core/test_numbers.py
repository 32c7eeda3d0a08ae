"""Phone numbers: the table of worked examples, and properties of every number in every spelling."""

import csv
import re
from pathlib import Path

import phonenumbers
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from phonenumbers import PhoneNumberType

from precall.core import numbers
from precall.core.callers import acceptable, read_caller
from precall.core.numbers import (
    UNKNOWN,
    NumberFault,
    canonical,
    clean,
    fault,
    key_of,
    mask,
    may_be_same,
    mistake,
    same,
)

TABLE = Path(numbers.__file__).with_suffix(".csv")
PAGE = Path(__file__).parents[3] / "docs" / "numbers.md"
with TABLE.open(encoding="utf-8", newline="") as file:
    EXAMPLES = list(csv.DictReader(file))
WRITTEN = [example["written"] for example in EXAMPLES]
TAKEN = [example for example in EXAMPLES if not example["refused"]]


@pytest.mark.parametrize("example", EXAMPLES, ids=WRITTEN)
def test_the_table_of_worked_examples(example: dict[str, str]) -> None:
    written = example["written"]
    wrong = fault(written)
    assert clean(written) == example["dialled"]
    assert (canonical(written) if wrong is None else "") == example["canonical"]
    assert (wrong.name.lower() if wrong else "") == example["refused"]


def test_the_documented_table_is_the_one_beside_the_code() -> None:
    assert len(EXAMPLES) >= 60
    rows = re.findall(
        r"^\| `(.+?)` \| (?:`(.+?)`|refused) \| (?:`(.+?)`)? ?\| (.+) \|$", PAGE.read_text(), re.MULTILINE
    )
    told = [(re.sub(r"\\u(....)", lambda code: chr(int(code[1], 16)), one), *rest) for one, *rest in rows]
    assert told == [
        tuple(example[name] for name in ("written", "dialled", "canonical", "note")) for example in EXAMPLES
    ]


@pytest.mark.parametrize("example", TAKEN, ids=[example["written"] for example in TAKEN])
def test_what_is_dialled_is_the_number_that_was_written(example: dict[str, str]) -> None:
    assert clean(example["dialled"]) == example["dialled"]
    assert same(example["dialled"], example["written"])
    assert key_of(example["written"]) == int(example["canonical"])
    if len(example["canonical"]) > 8:
        assert canonical(f"+{example['canonical']}") == example["canonical"]


def test_same_is_an_equivalence_on_the_table_and_may_be_same_is_wider() -> None:
    for one in WRITTEN:
        assert same(one, one)
        assert may_be_same(one, one)
        for other in WRITTEN:
            assert same(one, other) == same(other, one)
            assert may_be_same(one, other) == may_be_same(other, one)
            assert may_be_same(one, other) or not same(one, other)
            if same(one, other):
                assert all(same(one, third) == same(other, third) for third in WRITTEN)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("88888888", "0571-88888888"),
        ("88888888", "+8657188888888"),
        ("85291234567", "+852 9123 4567"),
        ("91234567", "+85291234567"),
        ("14155552671", "+1 415 555 2671"),
        ("4155552671", "+14155552671"),
        ("+13800000001", "13800000001"),
        ("8695588", "057188695588"),
    ],
)
def test_numbers_that_may_be_the_same_are_not_reported_as_same(one: str, other: str) -> None:
    assert not same(one, other)
    assert may_be_same(one, other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("13800000001", "13900000001"),
        ("13800000001", "700113800000001"),
        ("88888888", "0571-88888889"),
        ("057188888888", "057788888888"),
        ("057188888888", "05718888888"),
        ("95588", "13800095588"),
        ("", ""),
        ("", "13800000001"),
    ],
)
def test_different_numbers_are_not_the_same(one: str, other: str) -> None:
    assert not same(one, other)
    assert not may_be_same(one, other)


@pytest.mark.parametrize(
    ("number_x", "number_a", "number_b", "field"),
    [
        ("17000000001", "13800000001", "13900000001", ""),
        ("700123456789012", "0571-88888888", "", ""),
        ("13800000001", "013800000001", "", "number_x"),
        ("+8657188888888", "13800000001", "057188888888", "number_x"),
        ("88888888", "0571-88888888", "", "number_x"),
        ("17000000001", "057188888888801", "", "number_a"),
        ("17000000001", "13800000001", "139000000014321", "number_b"),
    ],
)
def test_numbers_that_cannot_be_those_of_a_binding(
    number_x: str, number_a: str, number_b: str, field: str
) -> None:
    assert (mistake(number_x, number_a, number_b) or ("",))[0] == field


def test_x_equal_to_a_party_is_reported_for_both_fields() -> None:
    _, text = mistake("13800000001", "13900000001", "+8613800000001") or ("", "")
    assert text == "is, or may be, the same number as number_b: an X is never a party of its own binding"


@pytest.mark.parametrize(
    ("number", "shown"), [("13800000001", "***01"), ("700123456789012", "***12"), ("95", "***"), ("", "")]
)
def test_a_mask_shows_two_digits_at_most(number: str, shown: str) -> None:
    assert mask(number) == shown


def test_error_texts_repeat_no_digit() -> None:
    for example in EXAMPLES:
        wrong = fault(example["written"])
        assert wrong is None or not re.search(r"[0-9]{3,}", wrong)
    assert "extension" in NumberFault.EXTENSION


# -- in all spellings --------------------------------------------------------------------------------

REGIONS = ("CN", "HK", "MO", "TW", "US", "SG")
PARTIES = (PhoneNumberType.MOBILE, PhoneNumberType.FIXED_LINE, PhoneNumberType.FIXED_LINE_OR_MOBILE)


@st.composite
def parties(draw: st.DrawFn, regions: tuple[str, ...] = REGIONS) -> phonenumbers.PhoneNumber:
    """A number that may be a party's, by the metadata of libphonenumber."""
    region = draw(st.sampled_from(regions))
    example = phonenumbers.example_number_for_type(region, draw(st.sampled_from(PARTIES)))
    assume(example is not None)
    digits = list(str(example.national_number))
    for place in draw(st.sets(st.integers(0, len(digits) - 1))):
        digits[place] = draw(st.sampled_from("0123456789"))
    number = phonenumbers.PhoneNumber(example.country_code, int("".join(digits)))
    assume(len(str(number.national_number)) == len(digits))
    assume(phonenumbers.is_valid_number(number) and phonenumbers.number_type(number) in PARTIES)
    return number


def spelled(draw: st.DrawFn, digits: str) -> str:
    """The digits in other groups, with other separators."""
    form = draw(st.sampled_from([" ", "-", ".", "\u00a0", "\u2013"]))
    parts = [digits]
    if len(digits) > 4 and draw(st.booleans()):
        parts = [digits[:-4], digits[-4:]]
    text = form.join(parts)
    return text.translate({ord(str(n)): 0xFF10 + n for n in range(10)}) if draw(st.booleans()) else text


@st.composite
def spellings(draw: st.DrawFn, number: phonenumbers.PhoneNumber) -> str:
    """A usual way to write it."""
    code, national = str(number.country_code), str(number.national_number)
    kinds = [phonenumbers.PhoneNumberFormat.INTERNATIONAL, phonenumbers.PhoneNumberFormat.E164]
    written = phonenumbers.format_number(number, draw(st.sampled_from(kinds)))
    ways = [
        written,
        f"00{code}{national}",
        f"+{code} {spelled(draw, national)}",
        f"(+{code}) {spelled(draw, national)}",
        f" {written}\t",
    ]
    if code == "86":
        ways += [
            f"86{national}",
            f"0{national}",
            national,
            f"+86 (0){national}",
            f"0{spelled(draw, national)}",
        ]
        ways += [phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.NATIONAL)]
    return draw(st.sampled_from(ways))


@given(st.data(), parties())
def test_the_canonical_form_is_that_of_libphonenumber(
    data: st.DataObject, number: phonenumbers.PhoneNumber
) -> None:
    written = data.draw(spellings(number))
    e164 = phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164).removeprefix("+")
    assert canonical(written) == e164
    assert clean(written)
    assert same(written, f"+{e164}")


@given(st.data(), parties(("CN",)), st.text("0123456789", min_size=1, max_size=5))
def test_an_extension_is_never_joined_to_a_party(
    data: st.DataObject, number: phonenumbers.PhoneNumber, extension: str
) -> None:
    written = data.draw(spellings(number)).strip()
    between = data.draw(st.sampled_from(["-", " ", ".", "x", " ext. ", ";ext=", ",", "#", "转", "p", "w"]))
    assert clean(f"{written}{between}{extension}") == ""


@given(st.text())
def test_any_text_is_a_number_or_has_a_fault(text: str) -> None:
    assert bool(clean(text)) is (fault(text) is None)
    assert re.fullmatch(r"\+?[0-9]{3,20}|", clean(text), re.ASCII)


# -- callers -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("caller", "number"),
    [
        ("13800000001", "13800000001"),
        (" 8613800000001", "8613800000001"),
        ("sip:+8613800000001@host;user=phone", "+8613800000001"),
        ('"Li, Wei" <sip:13800000001@192.0.2.1:5060>;tag=x', "13800000001"),
        ("<tel:+86-138-0000-0001>", "+8613800000001"),
        ("tel:+86-138-0000-0001;phone-context=example.com", "+8613800000001"),
        ("tel:88888888;phone-context=+86571", "+8657188888888"),
        ("tel:057188888888;phone-context=+86", "+8657188888888"),
        ("sip:%2B8613800000001@host", "+8613800000001"),
        ("SIPS:8613800000001@host?Replaces=1", "8613800000001"),
        ("sip:13800000001:secret@host", "13800000001"),
        ("sip:13800000001;npdi@host", "13800000001"),
        ("sip:13800000001", "13800000001"),
        ("13800000001@host", "13800000001"),
        ("", UNKNOWN),
        ("anonymous", UNKNOWN),
        ("sip:alice@host", UNKNOWN),
        ("sip:anonymous@anonymous.invalid", UNKNOWN),
        ("sip:10.0.0.1", UNKNOWN),
        ("tel:+8657188888888;ext=801", UNKNOWN),
        ("sip:057188888888-801@host", UNKNOWN),
        ("+8613800000001 <sip:anonymous@anonymous.invalid>", UNKNOWN),
    ],
)
def test_a_caller_is_a_number_or_unknown(caller: str, number: str) -> None:
    assert read_caller(caller) == number
    assert not may_be_same(UNKNOWN, "13800000001")


@given(st.text(max_size=300))
def test_any_caller_can_be_read(caller: str) -> None:
    assert read_caller(caller)
    assert acceptable(caller) or len(caller) > 256 or re.search(r"[\x00-\x1f\x7f]", caller)
