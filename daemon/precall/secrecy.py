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

_NUMBER = re.compile(r"(?<![0-9A-Za-z_.:-])\+?[0-9]{7,20}(?![0-9A-Za-z_-])")
_kept: dict[str, None] = {}


def keep(*secrets: str) -> None:
    """Remember secrets, to be taken out from now on, however they are encoded in a URL."""
    for secret in secrets:
        if len(secret) < SHORTEST:
            continue
        once = quote(secret, safe="")
        for form in (quote(once, safe=""), once, secret):
            _kept.pop(form, None)
            _kept[form] = None
    while len(_kept) > 3 * MOST:
        del _kept[next(iter(_kept))]


def without_secrets(text: str) -> str:
    """The text without the secrets that are known."""
    for secret in sorted(_kept, key=len, reverse=True):
        text = text.replace(secret, HIDDEN)
    return text


def concealed(text: str) -> str:
    """The text without the secrets that are known, and without what looks like a phone number."""
    return _NUMBER.sub(HIDDEN, without_secrets(text))
