"""Keys that stand twice in one JSON object. RFC 8259 leaves open which of them counts, and parsers differ: such a text
says two things at once, and is no answer to either. The fast parser keeps the last and says nothing.

Most texts are cleared by counting: every key is followed by a colon, so a text with as many colons as the parsed object
has keys holds no key twice. Only where that does not settle it is the text parsed again, by the standard library.
"""

import json
import re
from dataclasses import dataclass
from typing import Any

_HOLDERS = frozenset({dict, list})
_KEY_ENDS = re.compile(rb'"[ \t\r\n]*:')


@dataclass(frozen=True, slots=True)
class Contradiction:
    """Stands in the place of an object that holds `key` twice, or that holds such an object."""

    key: str


def repeated_key(raw: bytes | bytearray, content: object) -> str | None:
    """A key that some object in `raw` holds twice, None when there is none. `content` is what `raw` was parsed to."""
    if not may_repeat(raw, content):
        return None
    found = parsed(raw.decode("utf-8", "replace"))
    clash = found if isinstance(found, Contradiction) else _within(found)
    return clash.key if clash is not None else None


def may_repeat(raw: bytes | bytearray, content: object) -> bool:
    """False when no object in `raw` can hold a key twice."""
    keys = _keys(content)
    return raw.count(b":") != keys and len(_KEY_ENDS.findall(raw)) != keys


def parsed(text: str, *, strict: bool = True) -> Any:
    """JSON with a `Contradiction` in the place of each object that holds a key twice, at any depth.

    Numbers stay text where they are too long to convert. `strict=False` takes control characters within strings.
    Raises ValueError for what is no JSON, or is nested too deeply to be looked through.
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
    """How many keys all objects within hold."""
    count, waiting = 0, [content]
    for one in waiting:  # it grows while it is walked
        if type(one) is dict:
            count += len(one)
            waiting += [value for value in one.values() if type(value) in _HOLDERS]
        elif type(one) is list:
            waiting += one
    return count


def _whole(digits: str) -> int | str:
    return int(digits) if len(digits) < 20 else digits
