"""Reads the caller of a call, as switches report it, as a phone number.

A caller may be absent, a number in any spelling, or the URI of a SIP or tel header. Anything else, such as `anonymous`,
a name or a switchboard extension, is an unknown caller. That differs from an absent one, for which the usual direction
is assumed: a call from an unknown caller must not be connected to either party's real number.
"""

import re
from urllib.parse import unquote

from precall.core.numbers import UNKNOWN, clean

LONGEST = 256
"""Maximum length of a caller in characters."""

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_ADDRESS = re.compile(r"[^<>]*<([^<>]*)>.*")
_SCHEME = re.compile(r"(sips?|tel):(?://)?", re.IGNORECASE)
_CONTEXT = re.compile(r";phone-context=(\+[0-9.()-]+)", re.IGNORECASE)
_EXTENSION = re.compile(r";(?:ext|isub)=", re.IGNORECASE)


def acceptable(caller: str) -> bool:
    """Whether a text is acceptable as a caller: not too long, and without control characters."""
    return len(caller) <= LONGEST and not _CONTROL.search(caller)


def read_caller(caller: str) -> str:
    """The calling number as it is dialled, or UNKNOWN for a caller that is not a number. Never ""."""
    if number := clean(caller):
        return number
    return clean(_user_of(caller)) or UNKNOWN


def _user_of(caller: str) -> str:
    """The number of `"Name" <sip:NUMBER;PARAMETERS@HOST;PARAMETERS>`, of a tel URI, or of NUMBER@HOST; "" for none."""
    address = _ADDRESS.fullmatch(caller)
    uri = (address[1] if address else caller).strip()
    scheme = _SCHEME.match(uri)
    rest = uri[scheme.end() :] if scheme else uri
    if scheme is None and "@" not in rest and address is None:
        return ""
    user, at, _ = rest.partition("@")
    user = user if at else rest.partition("?")[0]
    if scheme is not None and scheme[1].lower() != "tel" and not at:
        # `sip:NUMBER` is a host by the letter, and a number in practice; a host with dots is an address.
        user = "" if "." in user else user
    user = unquote(user.partition(":")[0])
    if _EXTENSION.search(user):
        return ""
    number = user.partition(";")[0]
    context = _CONTEXT.search(user)
    if context and not number.startswith("+"):
        # A local number within `+86571`, or a national one within `+86`.
        return f"{context[1]} {number}"
    return number
