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

_NUMBER = re.compile(r"(?<![0-9A-Za-z_.-])\+?[0-9]{7,20}(?![0-9A-Za-z_-])")
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
    return _NUMBER.sub(HIDDEN, without_secrets(text))
