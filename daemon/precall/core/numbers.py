"""Phone numbers as strings: which texts are valid, what is dialled, and whether two spellings mean the same number.

Theory of operation
-------------------
A number is dialled as it was written, without separators and other decoration. Numbers compare by their *canonical
form*: the digits of E.164 without `+`. An international number begins with `+` or `00`; any other is Chinese.

The shape of a Chinese number tells whether it is complete: a mobile has eleven digits, a landline an area code and
seven or eight digits, and so on (`_kind`, `_trunked`). `86` before a complete number is the country code. The trunk `0`
of a landline is not part of the canonical form. Separators divide a number into groups of digits. A group after a
complete number is an extension. Dialled together with the number it would reach a stranger, so the text is refused.

Some spellings are ambiguous. A local number lacks its area code; `85291234567` is a landline in Guizhou, or a mobile in
Hong Kong without its `+`. `same` compares likely meanings and is an equivalence; `may_be_same` considers every
meaning. Guards against handing out a party's number use `may_be_same`. The direction of a call needs both to agree.

`numbers.csv` beside this file is the specification, by example. Nothing here stores or shows a number.
"""

import re
from collections.abc import Sequence
from enum import IntEnum, StrEnum
from functools import lru_cache
from typing import NamedTuple

MOBILE = 11
"""Digits of a mobile number."""
UNKNOWN = "unknown"
"""A caller that is present but not a number. It equals no number."""


class NumberFault(StrEnum):
    """Why a text is not a number, as shown to the sender. The texts repeat nothing of the input."""

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
    """The result of reading a text: the dialled and the canonical form, or ("", "") and the fault."""

    dialled: str
    canonical: str
    fault: NumberFault | None = None


class _Kind(IntEnum):
    """Whether digits are a complete number, and if so whether more digits could still belong to it."""

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
"""Maps full-width forms, dashes and spaces to ASCII, and removes invisible marks.

Compatibility forms that could mean another digit, such as superscripts, are not mapped.
"""

_GROUPED = re.compile(r"[ (]*(\+?)[ (]*([0-9][0-9 .()-]*)", re.ASCII)
_GROUP = re.compile(r"[0-9]+", re.ASCII)
_RUN = re.compile(r"[0-9](?:[ .()/_-]{0,3}[0-9])*", re.ASCII)
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
"""Country codes with the fewest and the most digits after them, for the regions most common here."""
_FOREIGN_LEAST, _FOREIGN_MOST = 7, 15


def clean(number: str) -> str:
    """The number as it is dialled, or "" for a text that is not a number."""
    return number if _is_plain(number) else read(number).dialled


def fault(number: str) -> NumberFault | None:
    """What is wrong with a text, None for a valid number."""
    return None if _is_plain(number) else read(number).fault


def canonical(number: str) -> str:
    """The form in which numbers compare: E.164 without `+`, or the bare digits if the area code is missing.

    A text that is not a number is returned unchanged.
    """
    return f"86{number}" if _is_plain(number) else read(number).canonical or number


def earlier_forms(number: str) -> tuple[str, ...]:
    """The canonical forms that earlier versions may have used, depending on how the number was written.

    Needed to find hashes of numbers that earlier versions stored.
    """
    form = canonical(number)
    if not form.startswith("86"):
        return (form, f"+{form}", f"00{form}")
    national = form.removeprefix("86")
    return (national, f"0{national}", f"+{form}", f"00{form}", form)


def key_of(number: str) -> int:
    """A compact key for a number, half its size. Equal numbers have equal keys; others almost always differ."""
    form = canonical(number)
    return int(form) if form.isascii() and form.isdecimal() else hash(form)


def same(number: str, other: str) -> bool:
    """Whether two texts likely mean the same number. An empty text equals nothing."""
    if not number or not other:
        return False
    if number == other:
        return True
    if _is_plain(number) and _is_plain(other):
        return False
    return canonical(number) == canonical(other)


def may_be_same(number: str, other: str) -> bool:
    """Whether two texts can mean the same number, also as a foreign number without `+` or without an area code."""
    if not number or not other:
        return False
    if number == other:
        return True
    if _is_plain(number) and _is_plain(other):
        return False
    ours, theirs = _meanings(number), _meanings(other)
    return not ours.isdisjoint(theirs) or _ends(number, theirs) or _ends(other, ours)


def mask(number: str) -> str:
    """Mask a number except for its last two digits."""
    return f"***{number[-2:]}" if len(number) > 4 else "***" if number else ""


def digit_runs(text: str) -> list[str]:
    """The runs of digits in a free text, each without the separators within it."""
    return ["".join(_GROUP.findall(run)) for run in _RUN.findall(text.translate(_PLAIN))]


def mistake(number_x: str, number_a: str, number_b: str) -> tuple[str, str] | None:
    """(field, reason) when these cannot be the numbers of a binding: one is invalid, or X is a party. Else None."""
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
    """Read a text as a number."""
    if text.isascii() and text.isdecimal():
        return _judged([text], plus=False)
    text = text.translate(_PLAIN).strip()
    match = _GROUPED.fullmatch(text.rstrip(" )"))
    if match is None or not match[2][-1].isdecimal():
        return _wrong(NumberFault.EXTENSION if _EXTENDED.fullmatch(text) else NumberFault.SHAPE)
    plus, body = bool(match[1]), match[2]
    if plus or body.startswith("00"):
        body = _TRUNK_IN_PARENTHESES.sub(" ", body, count=1)
    return _judged(_GROUP.findall(body), plus=plus)


def _judged(groups: list[str], *, plus: bool) -> Reading:
    """The number formed by groups of digits, with or without a leading `+`."""
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
    """The positions, within the last `length` digits, at which a group other than the last ends."""
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
    """Read digits as a Chinese number. `code` is its country code as it was written, or ""."""
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
    """Whether a number is complete at the end of a group, so that the next group is an extension."""
    national, whole = _national(digits, coded=coded)
    if whole is not _Kind.OPEN:
        return whole is _Kind.CLOSED
    if _is_local(national):
        # 400-8001-234, 700 1234 ... contain no local number.
        return len(national) >= 7 and not digits.startswith(("400", "800", "700"))
    return kind is _Kind.OPEN and len(national) >= 5


def _national(digits: str, *, coded: bool) -> tuple[str, _Kind]:
    """(the national number without its trunk 0, its kind). `coded`: a country code preceded it."""
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
    """The kind of a national number without its trunk 0."""
    length = len(digits)
    if length < 3:
        return _Kind.NONE
    match digits[0]:
        case "1":
            closed = (length == MOBILE and digits[1] >= "3") or (length == 10 and digits[1] == "0")
            # Service numbers (110, 10086, 12306) and senders of short messages (106...).
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
            # 86 is not an area code, so it is unambiguous as the country code.
            closed, opened = length in (10, 11) and digits[0] >= "3" and not digits.startswith("86"), False
    return _Kind.CLOSED if closed else _Kind.OPEN if opened else _Kind.NONE


def _trunked(digits: str) -> _Kind:
    """The kind of what follows a trunk 0: an area code with a local or a service number, or a mobile."""
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
    """Whether it is a number without an area code, or a short number of one town."""
    return 3 <= len(digits) <= 8 and digits[0] >= "2" and not digits.startswith("95")


def _is_plain(number: str) -> bool:
    """Whether it is a bare mobile or 700 number, as nearly all are. Two such numbers are the same only if equal."""
    length = len(number)
    if length == MOBILE:
        return number[0] == "1" and number[1] > "2" and number.isascii() and number.isdecimal()
    return length == 15 and number.startswith("700") and number.isascii() and number.isdecimal()


@lru_cache(maxsize=4096)
def _meanings(number: str) -> frozenset[str]:
    """The canonical forms of all meanings: the likely one, and the bare digits as a foreign number."""
    dialled = clean(number) or number
    digits = "".join(_GROUP.findall(dialled.translate(_PLAIN)))
    return frozenset({canonical(number), digits.removeprefix("00")})


def _ends(number: str, meanings: frozenset[str]) -> bool:
    """Whether a number may be one of `meanings` without its area code or country code."""
    if _is_plain(number) or number.startswith(("+", "00")):
        return False
    if not clean(number):
        return False
    bare = {canonical(number).removeprefix("86"), clean(number).lstrip("0")}
    return any(len(local) >= 7 and meaning.endswith(local) for local in bare for meaning in meanings)


def _wrong(fault: NumberFault) -> Reading:
    return Reading("", "", fault)
