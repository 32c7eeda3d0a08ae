"""Redaction of known secrets and phone numbers in texts of libraries, databases and the provider.

Texts of precall itself hold neither, but those may quote what they were given. `masked` is for such a text alone and
hides too much rather than too little. `concealed` is for whole lines, where times, addresses and ids of precall must
stay readable.
"""

import re
from urllib.parse import quote

HIDDEN = "***"
SHORTEST = 8
"""Shorter secrets are not looked for, since they would be found inside words."""
MOST = 100
"""How many secrets are remembered, since temporary ones are renewed all the time."""
FEWEST = 5
"""From this many digits on, with separators between them, a run is masked. Fewer are a line number or error code."""

LONGEST = 8
"""A unit of this many characters is masked by itself: it is a dump of bytes."""

# `\d` matches the decimal digits of every script, full-width ones included. The others are listed.
_DIGIT = r"[\d¹²³⁰⁴-⁹₀-₉①-⑨⓪❶-❾零〇一二三四五六七八九幺]"
_ESCAPED = (
    r"\\(?:x[0-9A-Fa-f]{2}|u[0-9A-Fa-f]{4}|U[0-9A-Fa-f]{8}|[0-7]{3}|[abfnrtv0])"
    r"|%[0-9A-Fa-f]{2}|&#[0-9A-Za-z]{1,6};"
)
"""One character as it is escaped in bytes, JSON, a URL or HTML."""
_HEX = r"(?<![0-9A-Za-z])(?:0x|\\x|[xX]')?(?=(?:[A-Fa-f]*[0-9]){4})[0-9A-Fa-f]{8,}(?![0-9A-Za-z])"
_UNIT = rf"{_HEX}|{_ESCAPED}|{_DIGIT}"
_RUN = re.compile(rf"\+?(?:{_UNIT})(?:(?:[^\w\\%&]|_){{0,4}}(?:{_UNIT}))*")
_OCTET = r"(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)"
_ADDRESS = re.compile(
    rf"(?<![\w.+-])(?:{_OCTET}(?:\.{_OCTET}){{3}}|localhost|::1|\[::1\])"
    r"(?:'?(?::|, )[1-9][0-9]{0,4}(?:, 0, 0)?)?(?![\w.-])",
    re.ASCII,
)
"""The address and port of a connection attempt, also in the notation of Python."""
_QUOTED = re.compile(r"(\bwith text |=|\bcontains |\bvalue:? )(?:'.*'|\".*\"|\(.*\))", re.DOTALL)
"""A value quoted by a database, as in `Key (number_a)=(138…) already exists`, `with text '…'` or `invalid value "…"`.
It extends to the last quote, since the value itself may hold one."""
_SHORT_QUOTED = re.compile(r"""(['"“‘`])([^\w'"]*\d[\d\W]*?)(['"”’`])""")
"""A quoted text without letters is a value, however few its digits are."""
_NUMBER = re.compile(r"(?<![0-9A-Za-z_.-])\+?\d{7,20}(?![0-9A-Za-z_-])")
_SPELLED = re.compile(
    r"(?<![\w.+:-])(?:\+|\(\+?)?\d{1,6}(?:[\s().\-/\u2010-\u2015\u2212\uff0d\u3000\u200b]{1,3}\d{1,8}){1,5}(?![\w:-])"
)
"""A number in groups."""
_OURS = re.compile(rf"\d{{4}}-\d\d-\d\d.*|{_OCTET}(?:\.{_OCTET}){{3}}|\d+\.\d+", re.DOTALL | re.ASCII)
"""Dates, addresses and fractions, which look like a number in groups."""
_kept: dict[str, tuple[str, ...]] = {}
"""Known secrets, the newest last, with the encoded forms that may occur in a text."""


def keep(*secrets: str) -> None:
    """Remember secrets, so that they are redacted from now on, also in URL encoding."""
    for secret in secrets:
        if len(secret) < SHORTEST:
            continue
        once = quote(secret, safe="")
        _kept.pop(secret, None)
        _kept[secret] = (quote(once, safe=""), once, secret)
    while len(_kept) > MOST:
        del _kept[next(iter(_kept))]


def without_secrets(text: str) -> str:
    """Return the text without known secrets."""
    forms = (form for forms in _kept.values() for form in forms if form in text)
    for form in sorted(forms, key=len, reverse=True):  # one form may contain another
        text = text.replace(form, HIDDEN)
    return text


def concealed(text: str) -> str:
    """Return the text without known secrets and without phone numbers, whole or in groups."""
    return _SPELLED.sub(_unless_ours, _NUMBER.sub(HIDDEN, without_secrets(text)))


def masked(text: str) -> str:
    """Return a text of a library, a database or the provider without secrets, quoted values and longer digit runs.

    Addresses, ports, error codes and line numbers stay.
    """
    text = _QUOTED.sub(_masked_value, without_secrets(text))
    pieces, at = [], 0
    for address in _ADDRESS.finditer(text):
        pieces += [_without_digits(text[at : address.start()]), address[0]]
        at = address.end()
    return "".join([*pieces, _without_digits(text[at:])])


def _without_digits(text: str) -> str:
    text = _RUN.sub(_unless_few, text)
    return _SHORT_QUOTED.sub(rf"\1{HIDDEN}\3", text)


def _unless_few(run: re.Match[str]) -> str:
    units = re.findall(_UNIT, run[0])
    return HIDDEN if len(units) >= FEWEST or max(map(len, units)) >= LONGEST else run[0]


def _unless_ours(run: re.Match[str]) -> str:
    digits = sum(character.isdecimal() for character in run[0])
    return run[0] if digits < 7 or digits > 20 or _OURS.fullmatch(run[0]) else HIDDEN


def _masked_value(found: re.Match[str]) -> str:
    quoted = found[0].removeprefix(found[1])
    return f"{found[1]}{quoted[0]}{HIDDEN}{quoted[-1]}"
