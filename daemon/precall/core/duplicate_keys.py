"""Detection of duplicate keys in JSON objects.

RFC 8259 does not define which of two equal keys counts, and parsers differ, so such a text is ambiguous. The fast
parser silently keeps the last.

Counting clears most texts. Every key is followed by a colon, so a text with as many colons as its parsed objects have
keys has no duplicates. Only otherwise is the text parsed again, by the standard library.
"""

import json
import re
from dataclasses import dataclass
from typing import Any

_CONTAINERS = frozenset({dict, list})
_KEY_ENDS = re.compile(rb'"[ \t\r\n]*:')


@dataclass(frozen=True, slots=True)
class Contradiction:
    """Replaces an object that contains `key` twice, at any depth."""

    key: str


def repeated_key(raw: bytes | bytearray, content: object) -> str | None:
    """A key that occurs twice in one object of `raw`, or None. `content` is the result of parsing `raw`."""
    if not may_repeat(raw, content):
        return None
    value = parsed(raw.decode("utf-8", "replace"))
    clash = value if isinstance(value, Contradiction) else _within(value)
    return clash.key if clash is not None else None


def may_repeat(raw: bytes | bytearray, content: object) -> bool:
    """False when no object in `raw` can contain a key twice."""
    keys = _keys(content)
    return raw.count(b":") != keys and len(_KEY_ENDS.findall(raw)) != keys


def parsed(text: str, *, strict: bool = True) -> Any:
    """Parse JSON, with a `Contradiction` in place of each object that contains a key twice.

    Integers too long to convert stay text. `strict=False` allows control characters within strings. Raises ValueError
    for invalid JSON, and for JSON that is nested too deeply.
    """
    try:
        return json.loads(text, object_pairs_hook=_object, parse_int=_whole, strict=strict)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _object(pairs: list[tuple[str, Any]]) -> "dict[str, Any] | Contradiction":
    content = dict(pairs)
    if len(content) < len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                return Contradiction(key)
            seen.add(key)
    for value in content.values():
        if isinstance(value, Contradiction):
            return value
        if isinstance(value, list) and (clash := _within(value)) is not None:
            return clash
    return content


def _within(value: object) -> Contradiction | None:
    """The first contradiction in a list, or in lists within it."""
    waiting = [value]
    while waiting:
        match waiting.pop():
            case Contradiction() as clash:
                return clash
            case list() as items:
                waiting.extend(reversed(items))
    return None


def _keys(content: object) -> int:
    """The number of keys in all nested objects."""
    count, waiting = 0, [content]
    for item in waiting:  # grows during the iteration
        if type(item) is dict:
            count += len(item)
            waiting += [value for value in item.values() if type(value) in _CONTAINERS]
        elif type(item) is list:
            waiting += item
    return count


def _whole(digits: str) -> int | str:
    return int(digits) if len(digits) < 20 else digits
