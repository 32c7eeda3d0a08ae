"""Stand-ins for numbers and ids in a transcript. Equal values get equal stand-ins, of the same form and length.

They are drawn at random and kept in memory only. A keyed hash of eleven digits could be guessed by anyone who has the
key; a random stand-in cannot be reversed. A stand-in for a phone number is a valid number of the same kind. Other
spellings of the number get the same one, so that equality with X, A and B can still be seen.
"""

import re
from collections.abc import Callable, Iterable
from urllib.parse import quote

from precall.core import numbers

HIDDEN = "***"
FEWEST = 5
"""Digits from which on a run of them is replaced. Shorter ones are a status, an extension or a year."""
_TRIES = 200

_KEPT = (
    r'"[Cc]ode"\s*:\s*"(?:100008\.0|(?!(?:[^"]*\d){5})[A-Za-z][A-Za-z0-9._-]{0,63})"'
    r"|<Code>(?:100008\.0|(?!(?:[^<]*\d){5})[A-Za-z][A-Za-z0-9._-]{0,63})</Code>"
    r"|(?<![0-9A-Za-z])[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}(?![0-9A-Za-z])"
    r"|(?<![0-9A-Za-z])(?=[0-9]*[A-Fa-f])[0-9A-Fa-f]{32}(?![0-9A-Za-z])"
    r"|(?<!\d)\d{4}-\d\d-\d\d(?:[T ]\d\d(?::|%3A|%253A)\d\d(?::|%3A|%253A)\d\d(?:\.\d{1,6})?Z?)?(?![\d-])"
)
"""Codes, RequestIds and times are kept: they identify no one, and a replay needs them."""
_DIGIT = r"[0-9\uff10-\uff19]"
_RUN = (
    rf"\+?{_DIGIT}{{7,}}|\+?{_DIGIT}(?:[ ().\x00\u00a0\u3000\u2010-\u2015-]{{0,2}}{_DIGIT}){{{FEWEST - 1},}}"
)
"""Digits in a row, else digits in groups."""
_ESCAPED_DIGIT = re.compile(r"\\u(?:003|[Ff][Ff]1)([0-9])|&#x3([0-9]);|&#(?:4([89])|5([0-7]));")


class StandIns:
    """Replaces numbers and ids. `below` returns a random whole number less than its argument."""

    def __init__(self, below: Callable[[int], int]) -> None:
        self._below = below
        self._of: dict[str, str] = {}
        self._taken: set[str] = set()
        self._ids: dict[str, str] = {}
        self._pattern = self._compiled()

    def hide(self, secrets: Iterable[str]) -> None:
        """Remove these texts, also where they are escaped once or twice in a URL."""
        for secret in secrets:
            once = quote(secret, safe="")
            self._ids |= dict.fromkeys((secret, once, quote(once, safe="")), HIDDEN) if secret else {}
        self._pattern = self._compiled()

    def keep(self, ids: Iterable[str]) -> None:
        """Keep these ids: they identify no one."""
        self._ids |= {one: one for one in ids}
        self._pattern = self._compiled()

    def id(self, text: str) -> str:
        """Return the stand-in of an id, such as a SubsId or a pool key. From now on it is replaced in every text."""
        if text and text not in self._ids:
            self._ids[text] = self._drawn(text, lambda: self._scrambled(text))
            self._pattern = self._compiled()
        return self._ids.get(text, text)

    def number(self, text: str) -> str:
        """Return the stand-in of a phone number in the spelling of the text. Other runs of digits get one too."""
        read = numbers.read(text)
        digits = [(at, str(int(one))) for at, one in enumerate(text) if one.isdecimal()]
        core = read.canonical or "".join(digit for _, digit in digits)
        chinese = bool(read.canonical) and core.startswith("86")
        core = core.removeprefix("86") if chinese else core
        if not core:
            return text
        stand_in = self._of.get(core)
        if stand_in is None:
            draw = self._number_like if read.canonical else self._scrambled
            stand_in = self._of[core] = self._drawn(core, lambda: draw(core))
        letters = list(text)
        # Prefixes such as +86 or a trunk 0 precede the core, and stay.
        for (at, _), digit in zip(digits[-len(core) :], stand_in[-len(digits) :], strict=True):
            letters[at] = digit
        return "".join(letters)

    def text(self, text: str) -> str:
        """Return a text, such as the body of a reply, with every number and known id replaced."""
        return self._pattern.sub(self._replaced, _ESCAPED_DIGIT.sub(_unescaped, text))

    def _replaced(self, found: re.Match[str]) -> str:
        if found["id"]:
            return self._ids[found["id"]]
        return self.number(found["run"]) if found["run"] else found[0]

    def _compiled(self) -> re.Pattern[str]:
        ids = "|".join(map(self._id_pattern, sorted(self._ids, key=len, reverse=True))) or r"(?!)"
        return re.compile(rf"(?P<kept>{_KEPT})|(?P<id>{ids})|(?P<run>{_RUN})")

    def _id_pattern(self, text: str) -> str:
        """Match an id, but not within a longer run of digits. A short one must stand alone: it could be a status.

        A secret is matched wherever it stands.
        """
        escaped = re.escape(text)
        if self._ids[text] == HIDDEN:
            return escaped
        return (
            rf"(?<![0-9]){escaped}(?![0-9])"
            if len(text) >= FEWEST
            else rf"(?<=[\"'>=]){escaped}(?=[\"'<&]|$)"
        )

    def _drawn(self, real: str, draw: Callable[[], str]) -> str:
        """Draw a text until it is unique among real and drawn ones. A text without digits or letters is kept."""
        for _ in range(_TRIES):
            drawn = draw()
            if (
                drawn != real
                and drawn not in self._taken
                and drawn not in self._of
                and drawn not in self._ids
            ):
                break
        self._taken.add(drawn)
        return drawn

    def _scrambled(self, text: str) -> str:
        """Replace each digit by a random one; a first digit other than 0 stays so, since it may be a JSON number."""
        drawn = [str(self._below(10)) if one.isdecimal() else one for one in text]
        if text[:1].isdecimal() and text[0] != "0":
            drawn[0] = str(1 + self._below(9))
        return "".join(drawn)

    def _number_like(self, core: str) -> str:
        """Return a number of the same kind and length: its prefix is kept, the rest is drawn."""
        mobile = len(core) == numbers.MOBILE and core[0] == "1"
        for kept in range(2 if mobile else min(4, len(core) - 2), len(core)):
            for _ in range(_TRIES):
                drawn = core[:kept] + self._scrambled("0" * (len(core) - kept))
                if numbers.clean(drawn) and numbers.canonical(drawn) in (f"86{drawn}", drawn):
                    return drawn
        return core


def _unescaped(found: re.Match[str]) -> str:
    in_json, hexadecimal, eight, other = found.groups()
    if digit := in_json or hexadecimal:
        return str(digit)
    return str(int(eight) - 8) if eight else str(int(other) + 2)
