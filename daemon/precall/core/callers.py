"""The caller of a call as switches name it, read as a number of the core.

A caller may be absent, a number in any spelling, the URI of a SIP or tel header, or something that is no number:
`anonymous`, a name, an extension of a switchboard. The last is an unknown caller. It is not the same as none, for which
the usual direction is taken: a call by somebody unknown must not be put through to either party's real number.
"""

import re
from urllib.parse import unquote

from precall.core.numbers import UNKNOWN, clean

LONGEST = 256
"""Characters a caller may have."""

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_ADDRESS = re.compile(r"[^<>]*<([^<>]*)>.*")
_SCHEME = re.compile(r"(sips?|tel):(?://)?", re.IGNORECASE)
_CONTEXT = re.compile(r";phone-context=(\+[0-9.()-]+)", re.IGNORECASE)
_EXTENSION = re.compile(r";(?:ext|isub)=", re.IGNORECASE)


def acceptable(caller: str) -> bool:
    """Whether it may be a caller at all: not too long, no control characters."""
    return len(caller) <= LONGEST and not _CONTROL.search(caller)


def read_caller(caller: str) -> str:
    """The number that calls, as it was written, or UNKNOWN for a caller that is none. Never ""."""
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
