"""The last line before a log, a crash or a terminal: secrets this process knows, and what looks like a phone number,
are taken out of texts that others have made.

Our own texts hold neither; those of libraries, of databases and of the provider may quote what they were given.
`masked` is for such a text by itself: it errs on the side of silence. `concealed` guards whole lines, in which times,
addresses and ids of our own must stay readable.
"""

import re
from urllib.parse import quote

HIDDEN = "***"
SHORTEST = 8
"""Characters below which a secret is not looked for: it would be found in words."""
MOST = 100
"""Secrets remembered: temporary ones are renewed all the time."""
FEWEST = 5
"""Digits, with whatever stands between them, that are masked in a text of others; fewer are a line or an error code."""

LONGEST = 8
"""Characters of one unit: as long it is a dump of bytes."""

# `\d` knows the decimal digits of every script, full-width ones among them; these are the others of a number.
_DIGIT = r"[\d¹²³⁰⁴-⁹₀-₉①-⑨⓪❶-❾零〇一二三四五六七八九幺]"
_ESCAPED = (
    r"\\(?:x[0-9A-Fa-f]{2}|u[0-9A-Fa-f]{4}|U[0-9A-Fa-f]{8}|[0-7]{3}|[abfnrtv0])"
    r"|%[0-9A-Fa-f]{2}|&#[0-9A-Za-z]{1,6};"
)
"""One character as a library shows it: of bytes, of JSON, of a URL, of HTML."""
_HEX = r"(?<![0-9A-Za-z])(?:0x|\\x|[xX]')?(?=(?:[A-Fa-f]*[0-9]){4})[0-9A-Fa-f]{8,}(?![0-9A-Za-z])"
_UNIT = rf"{_HEX}|{_ESCAPED}|{_DIGIT}"
_RUN = re.compile(rf"\+?(?:{_UNIT})(?:(?:[^\w\\%&]|_){{0,4}}(?:{_UNIT}))*")
_OCTET = r"(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)"
_ADDRESS = re.compile(
    rf"(?<![\w.+-])(?:{_OCTET}(?:\.{_OCTET}){{3}}|localhost|::1|\[::1\])"
    r"(?:'?(?::|, )[1-9][0-9]{0,4}(?:, 0, 0)?)?(?![\w.-])",
    re.ASCII,
)
"""Where a connection was tried: an address with its port, also as Python shows the two."""
_QUOTED = re.compile(r"(\bwith text |=|\bcontains |\bvalue:? )(?:'.*'|\".*\"|\(.*\))", re.DOTALL)
"""A value that a database quotes: `Key (number_a)=(138…) already exists`, `with text '…'`, `invalid value "…"`. Up to
the last quote there is, for the value may hold one."""
_SHORT_QUOTED = re.compile(r"""(['"“‘`])([^\w'"]*\d[\d\W]*?)(['"”’`])""")
"""In quotes, and without a letter: a value, however few its digits are."""
_NUMBER = re.compile(r"(?<![0-9A-Za-z_.-])\+?\d{7,20}(?![0-9A-Za-z_-])")
_SPELLED = re.compile(
    r"(?<![\w.+:-])(?:\+|\(\+?)?\d{1,6}(?:[\s().\-/\u2010-\u2015\u2212\uff0d\u3000\u200b]{1,3}\d{1,8}){1,5}(?![\w:-])"
)
"""A number in groups."""
_OURS = re.compile(rf"\d{{4}}-\d\d-\d\d.*|{_OCTET}(?:\.{_OCTET}){{3}}|\d+\.\d+", re.DOTALL | re.ASCII)
"""What looks like groups and is a date, an address or a fraction."""
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
    """The text without the secrets that are known, and without what looks like a phone number, in one or in groups."""
    return _SPELLED.sub(_unless_ours, _NUMBER.sub(HIDDEN, without_secrets(text)))


def masked(text: str) -> str:
    """A text of a library, a database or the provider, fit to be repeated: without secrets, without values that it
    quotes, and without any five digits in whatever spelling. Addresses and ports, error codes and line numbers stay."""
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
