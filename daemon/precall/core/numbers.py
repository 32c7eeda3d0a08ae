"""Phone numbers as strings: what is one, what of it is dialled, and when two spellings are one number.

Theory of operation
-------------------
A number is dialled as it was written, less what only helps the eye. Numbers compare by their *canonical form*: the
digits of E.164 without `+`. `+` or `00` begins an international number; without either it is Chinese.

A Chinese number is complete by its shape: a mobile has eleven digits, a landline its area code and seven or eight, and
so on (`_kind`, `_trunked`). `86` before a complete number is the country code; the trunk `0` of a landline is no
part of the canonical form, wherever it stands. Separators only part groups of digits, and a group behind a complete
number is an extension: dialled together with the number it reaches a stranger, so the whole is refused.

What a spelling means is not always certain: a local number lacks its area code, `85291234567` is a landline of
Guizhou or a mobile of Hong Kong without its `+`. `same` is the likely meaning, an equivalence. `may_be_same` adds
every other one. A guard that must not hand out a party's number asks the second; the direction of a call needs both
to agree.

`numbers.csv` beside this file holds worked examples; it is the specification. Nothing here stores or shows a number.
"""

import re
from collections.abc import Sequence
from enum import IntEnum, StrEnum
from functools import lru_cache
from typing import NamedTuple

MOBILE = 11
"""Digits of a mobile number: with so many, and nothing else, there is nothing to take away."""
UNKNOWN = "unknown"
"""Stands for a caller that is present but no number. It is the same as nothing."""


class NumberFault(StrEnum):
    """Why a text is no number, in the words a sender reads. The texts repeat nothing of what was sent."""

    SHAPE = (
        "should be a phone number: 3 to 20 digits, with + or 00 if it is not Chinese; spaces, dashes, dots and"
        " parentheses may part them"
    )
    EXTENSION = (
        "has more digits than a phone number, as with an extension behind it; send the number alone, and an"
        " extension of X in the field `extension`"
    )
    FOREIGN = (
        "is no complete Chinese phone number; write a number of another country with + and its country code, and an"
        " extension of X in the field `extension`"
    )
    PARTY = "is, or may be, the same number as"


class Reading(NamedTuple):
    """A text as a number: what is dialled and the canonical form, or ("", "") and what is wrong."""

    dialled: str
    canonical: str
    fault: NumberFault | None = None


class _Kind(IntEnum):
    """Whether digits are a whole number, and if so whether more digits could still belong to it."""

    NONE = 0
    OPEN = 1
    CLOSED = 2


_DASHES = "\u2010\u2011\u2012\u2013\u2014\u2015\u2212\u2043\ufe58\ufe63"
_SPACES = "\t\u00a0\u2002\u2003\u2007\u2009\u202f\u3000"
_UNSEEN = (
    "\u00ad\u200b\u200c\u200d\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2060\u2066\u2067\u2068\u2069\ufeff"
)
_PLAIN: dict[int, int | None] = (
    {wide: wide - 0xFEE0 for wide in range(0xFF01, 0xFF5F)}
    | {ord(dash): ord("-") for dash in _DASHES}
    | {ord(space): ord(" ") for space in _SPACES}
    | {ord("\u00b7"): ord(".")}
    | {ord(mark): None for mark in _UNSEEN}
)
"""Full-width forms, dashes and spaces as ASCII, and no marks that nobody sees. Nothing that could stand for another
digit: compatibility forms such as footnote figures stay what they are."""

_GROUPED = re.compile(r"[ (]*(\+?)[ (]*([0-9][0-9 .()-]*)", re.ASCII)
_GROUP = re.compile(r"[0-9]+", re.ASCII)
_EXTENDED = re.compile(
    r"[+0-9 .()-]*[0-9][ .)-]*"
    r"(?:;?\s*ext(?:n|ension)?|[xpw#,;*/~转轉]|分机|分機|内线|內線|转分机)[ .:=#-]*[0-9]+\W*",
    re.IGNORECASE,
)
_TRUNK_IN_PARENTHESES = re.compile(r"\( *0 *\)")

_LENGTHS: tuple[tuple[str, int, int], ...] = (
    ("1", 10, 10),
    ("852", 8, 8),
    ("853", 8, 8),
    ("65", 8, 8),
    ("886", 8, 10),
)
"""Country codes with the least and the most digits behind them, for the neighbours whose parties are usual here."""
_FOREIGN_LEAST, _FOREIGN_MOST = 7, 15


def clean(number: str) -> str:
    """The number as it is dialled, or "" for what is none."""
    return number if _is_plain(number) else read(number).dialled


def fault(number: str) -> NumberFault | None:
    """What is wrong with it, None for a number."""
    return None if _is_plain(number) else read(number).fault


def canonical(number: str) -> str:
    """The form in which numbers compare: E.164 without `+`, or the digits alone where an area code is missing. What is
    no number stands for itself."""
    return f"86{number}" if _is_plain(number) else read(number).canonical or number


def earlier_forms(number: str) -> tuple[str, ...]:
    """The forms in which earlier versions compared it, by the way it was written: a number that is not a mobile had
    several. For what they wrote down of it in a form that cannot be read back."""
    form = canonical(number)
    if not form.startswith("86"):
        return (form, f"+{form}", f"00{form}")
    national = form.removeprefix("86")
    return (national, f"0{national}", f"+{form}", f"00{form}", form)


def key_of(number: str) -> int:
    """What stands for a number where a million of them are keys: half its size. Equal numbers have equal keys; other
    numbers nearly never have."""
    form = canonical(number)
    return int(form) if form.isascii() and form.isdecimal() else hash(form)


def same(one: str, other: str) -> bool:
    """Whether both are one number by their likely meaning. An empty number equals nothing."""
    if not one or not other:
        return False
    if one == other:
        return True
    if _is_plain(one) and _is_plain(other):
        return False
    return canonical(one) == canonical(other)


def may_be_same(one: str, other: str) -> bool:
    """Whether both can be one number, by any meaning: as bare digits of another country, or without the area code."""
    if not one or not other:
        return False
    if one == other:
        return True
    if _is_plain(one) and _is_plain(other):
        return False
    ours, theirs = _meanings(one), _meanings(other)
    return not ours.isdisjoint(theirs) or _ends(one, theirs) or _ends(other, ours)


def mask(number: str) -> str:
    """What may be shown of a number to who must not read it: its last two digits."""
    return f"***{number[-2:]}" if len(number) > 4 else "***" if number else ""


def mistake(number_x: str, number_a: str, number_b: str) -> tuple[str, str] | None:
    """(the field, what is wrong) when these cannot be the numbers of a binding: one is no number, or X is a party."""
    plain = _is_plain(number_x) and _is_plain(number_a) and (not number_b or _is_plain(number_b))
    if plain and number_x not in (number_a, number_b):
        return None
    for name, number in (("number_x", number_x), ("number_a", number_a), ("number_b", number_b)):
        if number and (wrong := fault(number)):
            return name, str(wrong)
    for name, party in (("number_a", number_a), ("number_b", number_b)):
        if may_be_same(number_x, party):
            return "number_x", f"{NumberFault.PARTY} {name}: an X is never a party of its own binding"
    return None


@lru_cache(maxsize=4096)
def read(text: str) -> Reading:
    """The text as a number."""
    if text.isascii() and text.isdecimal():
        return _judged([text], plus=False)
    text = text.translate(_PLAIN).strip()
    found = _GROUPED.fullmatch(text.rstrip(" )"))
    if found is None or not found[2][-1].isdecimal():
        return _wrong(NumberFault.EXTENSION if _EXTENDED.fullmatch(text) else NumberFault.SHAPE)
    plus, body = bool(found[1]), found[2]
    if plus or body.startswith("00"):
        body = _TRUNK_IN_PARENTHESES.sub(" ", body, count=1)
    return _judged(_GROUP.findall(body), plus=plus)


def _judged(groups: list[str], *, plus: bool) -> Reading:
    """The number of these groups of digits, behind a `+` or not."""
    digits = "".join(groups)
    prefix = "+" if plus else "00" if digits.startswith("00") else ""
    if prefix == "00":
        digits = digits[2:]
    ends = _ends_of(groups, len(digits))
    if not prefix:
        return _chinese("", digits, ends)
    if digits.startswith("86"):
        return _chinese(f"{prefix}86", digits[2:], [end - 2 for end in ends])
    return _foreign(prefix, digits)


def _ends_of(groups: Sequence[str], length: int) -> list[int]:
    """Where in the last `length` digits of the groups a group ends, but for the last."""
    ends, end = [], length - sum(map(len, groups))
    for group in groups[:-1]:
        end += len(group)
        ends.append(end)
    return ends


def _foreign(prefix: str, digits: str) -> Reading:
    if not _FOREIGN_LEAST <= len(digits) <= _FOREIGN_MOST or digits[0] == "0":
        return _wrong(NumberFault.SHAPE)
    for code, least, most in _LENGTHS:
        if digits.startswith(code):
            if len(digits) > len(code) + most:
                return _wrong(NumberFault.EXTENSION)
            if len(digits) < len(code) + least:
                return _wrong(NumberFault.SHAPE)
    return Reading(prefix + digits, digits)


def _chinese(code: str, digits: str, ends: Sequence[int]) -> Reading:
    """The Chinese number of these digits behind `code`, its country code as it was written ("" if it was not)."""
    national, kind = _national(digits, coded=bool(code))
    if not kind:
        if len(digits) < 3:
            return _wrong(NumberFault.SHAPE)
        certain = code or ends or digits.startswith(("0", "1", "400", "700", "800", "86"))
        longer = any(
            _national(digits[:end], coded=bool(code))[1] is _Kind.CLOSED for end in range(10, len(digits))
        )
        return _wrong(NumberFault.EXTENSION if certain and longer else NumberFault.FOREIGN)
    if any(_is_whole(digits[:end], kind, coded=bool(code)) for end in ends if end > 0):
        return _wrong(NumberFault.EXTENSION)
    if kind is _Kind.OPEN and _is_local(national) and not code:
        return Reading(digits, national)
    if not code and digits.startswith("86") and national != digits:
        code = "86"
    return Reading(code + (national if code else digits), f"86{national}")


def _is_whole(digits: str, kind: _Kind, *, coded: bool) -> bool:
    """Whether a number was complete at the end of this group, so that the next group is an extension."""
    national, whole = _national(digits, coded=coded)
    if whole is not _Kind.OPEN:
        return whole is _Kind.CLOSED
    if _is_local(national):
        # Not 400-8001-234 or 700 1234 ...: those have no local number in them.
        return len(national) >= 7 and not digits.startswith(("400", "800", "700"))
    return kind is _Kind.OPEN and len(national) >= 5


def _national(digits: str, *, coded: bool) -> tuple[str, _Kind]:
    """(the national number without its trunk 0, its kind). `coded`: a country code stood before it."""
    if digits.startswith("0"):
        return digits[1:], _trunked(digits[1:])
    if coded:
        return digits, _kind(digits)
    if digits.startswith("86"):
        rest = digits[2:]
        national, kind = _national(rest, coded=True)
        if kind:
            return national, kind
    kind = _kind(digits)
    return digits, _Kind.OPEN if not kind and _is_local(digits) else kind


def _kind(digits: str) -> _Kind:
    """Of a national number without trunk 0."""
    length = len(digits)
    if length < 3:
        return _Kind.NONE
    match digits[0]:
        case "1":
            closed = (length == MOBILE and digits[1] >= "3") or (length == 10 and digits[1] == "0")
            # Service numbers (110, 10086, 12306) and what short messages come from (106...).
            opened = length <= 8 or (digits.startswith("106") and length <= 20)
        case "4" | "8" if digits.startswith(("400", "800")):
            closed, opened = length == 10, False
        case "7" if digits.startswith("700"):
            closed, opened = length in (10, 15), False
        case "9" if digits.startswith("95"):
            closed, opened = False, 5 <= length <= 20
        case "2":
            closed, opened = length == 10, False
        case _:
            # 86 is no area code, so that the country code is told from one.
            closed, opened = length in (10, 11) and digits[0] >= "3" and not digits.startswith("86"), False
    return _Kind.CLOSED if closed else _Kind.OPEN if opened else _Kind.NONE


def _trunked(digits: str) -> _Kind:
    """Of what stands behind a trunk 0: an area code with a local number or a service number, or a mobile."""
    if len(digits) == MOBILE and digits[0] == "1" and digits[1] >= "3":
        return _Kind.CLOSED
    area = 2 if digits.startswith(("10", "2")) else 3 if digits[:1] >= "3" else 0
    local = digits[area:]
    if not area or not local:
        return _Kind.NONE
    if len(local) in (7, 8):
        return _Kind.CLOSED
    return _Kind.OPEN if 3 <= len(local) <= 6 and local[0] in "19" else _Kind.NONE


def _is_local(digits: str) -> bool:
    """Without an area code, or a short number of one town."""
    return 3 <= len(digits) <= 8 and digits[0] >= "2" and not digits.startswith("95")


def _is_plain(number: str) -> bool:
    """Whether it is a bare mobile or 700 number, as nearly all are: only its equal can be the same number."""
    length = len(number)
    if length == MOBILE:
        return number[0] == "1" and number[1] > "2" and number.isascii() and number.isdecimal()
    return length == 15 and number.startswith("700") and number.isascii() and number.isdecimal()


@lru_cache(maxsize=4096)
def _meanings(number: str) -> frozenset[str]:
    """All that a number can mean, in canonical forms: the likely one, and bare digits as those of another country."""
    dialled = clean(number) or number
    digits = "".join(_GROUP.findall(dialled.translate(_PLAIN)))
    return frozenset({canonical(number), digits.removeprefix("00")})


def _ends(number: str, meanings: frozenset[str]) -> bool:
    """Whether a number may be the end of another: the area code or the country code is missing."""
    if _is_plain(number) or number.startswith(("+", "00")):
        return False
    if not clean(number):
        return False
    bare = {canonical(number).removeprefix("86"), clean(number).lstrip("0")}
    return any(len(local) >= 7 and meaning.endswith(local) for local in bare for meaning in meanings)


def _wrong(fault: NumberFault) -> Reading:
    return Reading("", "", fault)
