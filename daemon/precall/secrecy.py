"""The last line before a log, a crash or a terminal: secrets this process knows, and what looks like a phone number,
are taken out of texts that others have made.

Our own texts hold neither; those of libraries, of databases and of the provider may quote what they were given.
"""

import re
from urllib.parse import quote

HIDDEN = "***"
SHORTEST = 8
"""Characters below which a secret is not looked for: it would be found in words."""
MOST = 100
"""Secrets remembered: temporary ones are renewed all the time."""

_NUMBER = re.compile(
    r"(?<![0-9A-Za-z_.\uff10-\uff19-])[+\uff0b]?"
    r"(?:[0-9\uff10-\uff19]|[0-9\uff10-\uff19][ \t.()\u00a0\u00b7\u2000-\u206f\u2212\u3000\uff08\uff09\uff0d-]{1,3}"
    r"(?=[0-9\uff10-\uff19])){6,24}[0-9\uff10-\uff19](?![0-9A-Za-z_\uff10-\uff19-])"
)
"""Seven digits or more, in any grouping and of any width."""
_OTHERWISE = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}(?: [0-9]{1,2})?|[0-9]{1,3}(?:\.[0-9]{1,3}){3}|[0-9]{1,6}\.[0-9]+", re.ASCII
)
"""Dates, addresses and fractions are digits in groups too."""
_kept: dict[str, tuple[str, ...]] = {}
"""Secrets, the newest last, with the forms in which they may stand in a text."""


def keep(*secrets: str) -> None:
    """Remember secrets, to be taken out from now on, however they are encoded in a URL."""
    for secret in secrets:
        if len(secret) < SHORTEST:
            continue
        once = quote(secret, safe="")
        _kept.pop(secret, None)
        _kept[secret] = (quote(once, safe=""), once, secret)
    while len(_kept) > MOST:
        del _kept[next(iter(_kept))]


def without_secrets(text: str) -> str:
    """The text without the secrets that are known."""
    forms = (form for forms in _kept.values() for form in forms if form in text)
    for form in sorted(forms, key=len, reverse=True):  # one may be part of another
        text = text.replace(form, HIDDEN)
    return text


def concealed(text: str) -> str:
    """The text without the secrets that are known, and without what looks like a phone number."""
    return _NUMBER.sub(_hidden, without_secrets(text))


def _hidden(found: re.Match[str]) -> str:
    return found[0] if _OTHERWISE.fullmatch(found[0]) else HIDDEN
