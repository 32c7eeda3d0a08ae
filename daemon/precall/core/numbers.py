"""Phone numbers as strings: when one is usable, and when two are the same. Nothing here stores or shows one."""

import re

MOBILE = 11
"""Digits of a mobile number: with so many, and nothing else, there is nothing to take away."""
_PUNCTUATION = str.maketrans("", "", " \t-()\u00a0")
_DIALABLE = re.compile(r"\+?[0-9]{3,20}", re.ASCII)
_MOBILE_WITH_PREFIX = re.compile(r"(?:\+86|0086|86)([0-9]{11})", re.ASCII)
_MOBILE_WITH_TRUNK_ZERO = re.compile(r"0(1[3-9][0-9]{9})", re.ASCII)


def clean(number: str) -> str:
    """The number without spaces and dashes, or "" when what is left is not 3 to 20 digits after an optional +."""
    number = number.translate(_PUNCTUATION)
    return number if _DIALABLE.fullmatch(number) else ""


def normalise(number: str) -> str:
    """The form in which numbers compare: no +86, 0086 or 86 before eleven digits, no trunk 0 before a mobile."""
    if len(number) == MOBILE and number.isdecimal():
        return number
    number = number.translate(_PUNCTUATION)
    if match := _MOBILE_WITH_PREFIX.fullmatch(number):
        number = match[1]
    if match := _MOBILE_WITH_TRUNK_ZERO.fullmatch(number):
        number = match[1]
    return number


def key_of(number: str) -> int:
    """What stands for a number where a million of them are keys: half its size. Equal numbers have equal keys; other
    numbers nearly never have."""
    number = normalise(number)
    return int(number) if number.isdecimal() else hash(number)


def same(one: str, other: str) -> bool:
    """Whether both are one number. An empty number equals nothing."""
    return bool(one) and bool(other) and (one == other or normalise(one) == normalise(other))


def mask(number: str) -> str:
    """What may be shown of a number to who must not read it: its last two digits."""
    return f"***{number[-2:]}" if len(number) > 4 else "***" if number else ""
