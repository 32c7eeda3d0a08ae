"""Redaction of logs, terminal output and crashes; and repr of values without numbers."""

import asyncio
import io
import json
import logging
import subprocess
import sys
import unicodedata
from collections.abc import Callable
from typing import Any, Literal
from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from precall.api.schemas.bindings import BindingBody
from precall.api.schemas.overrides import OverrideBody
from precall.api.schemas.routes import LookupBody, NumberQuery, RouteQuery
from precall.core.model import Action, NumberRole, Override, Route, Row, State
from precall.core.packing import FACTS, Packed, pack
from precall.core.routing.route import DialTarget, decide
from precall.provider import Credential, Credentials
from precall.table.feed import FeedEntry, FeedPage
from precall.telemetry import logging as log
from precall.telemetry import redaction
from tests.support.builders import NOW, POLICY, TEMP, A, B, X, binding, observed, row

SECRET = "hush/hush+secret="


@pytest.fixture
def stream() -> Any:
    yield io.StringIO()
    log.configure("info")


@pytest.mark.parametrize("form", ["json", "text"])
def test_tracebacks_and_libraries_leak_no_number_or_secret(
    form: Literal["json", "text"], stream: io.StringIO
) -> None:
    Credentials(Credential("id", SECRET, f"{SECRET}-token"))
    log.configure("debug", form, stream)
    try:
        raise KeyError(f"{A} {SECRET} +86{B} hush%2Fhush%2Bsecret%3D hush%252Fhush%252Bsecret%253D-token")
    except KeyError as error:
        log.get_logger("daemon").error("check.broken", subs_id="1000000768798832", exc_info=error)
        log.get_logger("daemon").error("store.down", error=str(error), why=error.args[0])
        logging.getLogger("library").exception("cannot parse %s of %s", A, SECRET)
    said = stream.getvalue()
    assert said.count("Traceback") == 2
    assert said.count("1000000768798832") == 1
    assert [word for word in (A, B, "hush") if word in said] == []


def test_other_digits_are_not_masked() -> None:
    for text in (
        "127.0.0.1:35873",
        "2026-11-22T21:06:54.406238Z",
        "E7F9-12345678-A",
        "0x7f0012345678",
        "line 1234",
    ):
        assert redaction.concealed(text) == text
    assert redaction.concealed(f"({A}, '{B}') +8613800000001") == "(***, '***') ***"
    assert redaction.concealed(f'sip:{A}@here {{"number":{B}}}') == 'sip:***@here {"number":***}'
    assert redaction.without_secrets(A) == A


def test_short_secrets_are_not_masked_and_old_ones_forgotten() -> None:
    redaction.keep("", "a", "error")
    assert redaction.without_secrets("an error") == "an error"
    redaction.keep("the-oldest-secret")
    for place in range(redaction.MOST):
        redaction.keep(f"a-later-secret-{place:03}")
    assert redaction.without_secrets("the-oldest-secret, a-later-secret-099") == "the-oldest-secret, ***"


async def test_a_crashing_task_leaks_no_number(stream: io.StringIO) -> None:
    log.configure("debug", "text", stream)

    async def crash() -> None:
        raise ValueError(f"cannot dial {A}")

    task = asyncio.create_task(crash())
    await asyncio.wait({task})
    asyncio.get_running_loop().call_exception_handler({"message": f"lost {B}", "exception": task.exception()})
    said = stream.getvalue()
    assert "ValueError: cannot dial ***" in said
    assert [number for number in (A, B) if number in said] == []


def test_a_crashing_command_leaks_no_number_or_secret() -> None:
    code = (
        "import sys; from precall import cli; from precall.telemetry.redaction import keep\n"
        "keep(sys.argv[1])\n"
        "def crash(): raise RuntimeError(f'{sys.argv[2]} with {sys.argv[1]}')\n"
        "cli.app = crash; cli.main()"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code, SECRET, A], capture_output=True, text=True, timeout=60, check=False
    )
    assert (ended.returncode, ended.stdout) == (70, "")
    assert "RuntimeError: *** with ***" in ended.stderr
    assert [word for word in (SECRET, A) if word in ended.stderr] == []


def test_repr_of_values_contains_no_number() -> None:
    temporary = row(observed(State.TEMPORARY))
    pinned = Row(
        temporary.binding, temporary.state, Override(Action.DIAL_X, NumberRole.REGISTERED, None, "", 1, NOW)
    )
    route: Route = decide(temporary, A, POLICY, NOW)
    packed = Packed(temporary.binding.subs_id, "FC1", X, State.TEMPORARY, blocked=False, data=pack(temporary))
    facts = {"pool_key": "FC1", "number_x": X, "number_a": A, "number_b": B}
    values = [
        binding(),
        temporary,
        pinned,
        route,
        packed,
        DialTarget(Action.DIAL_X, route.reason, X),
        FeedEntry(1, NOW, "1", "FC1", route, X.encode()),
        FeedPage([], X.encode()),
        BindingBody.model_validate(facts),
        LookupBody.model_validate({"subs_ids": [], "caller": A}),
        OverrideBody.model_validate({"action": "dial_x", "number": X}),
        RouteQuery(caller=A),
        NumberQuery(x=X),
        Credential("id", SECRET, SECRET),
    ]
    assert len(FACTS) > 5
    shown = "\n".join(f"{value!r} {value!s}" for value in values)
    assert [word for word in (X, TEMP, A, B, SECRET) if word in shown] == []


# -- texts of others -------------------------------------------------------------------------------------

DRIVER_TEXTS = (
    "Could not decode to UTF-8 column 'number_a' with text '{}\ufffd'",
    'duplicate key value violates unique constraint "x"\nDETAIL:  Key (number_a, pool)=({}, FC1) already exists.',
    "Failing row contains (1, FC1, {}, null).",
    'invalid input syntax for type integer: "{}"',
    'value "{}" is out of range for type bigint',
    "Incorrect string value: '{}' for column `a`.`b`.`number_a` at row 1",
    "(1366, \"Incorrect integer value: '{}' for column 'n' at row 1\")",
    "invalid literal for int() with base 10: '{}'",
    "cannot parse {} of the row",
    "unexpected: {}",
    "{}",
)
SEPARATORS = ("", " ", "-", ".", "\u00a0", " - ", "\uff0d", "\u2013", "/", ") ", "_", "\u200b", ", ")
SPELLINGS: tuple[Callable[[str], str], ...] = (
    str,
    lambda text: text.translate({ord(str(digit)): chr(0xFF10 + digit) for digit in range(10)}),
    lambda text: text.translate({ord(str(digit)): "零一二三四五六七八九"[digit] for digit in range(10)}),
    lambda text: f"0x{text.encode().hex()}",
    lambda text: text.encode().hex().upper(),
    lambda text: "".join(f"\\x{one:02x}" for one in text.encode()),
    lambda text: "".join(f"\\u{ord(one):04x}" for one in text),
    lambda text: repr(text.encode()),
    lambda text: quote(text, safe="+") if "+" in text else quote(text),
    lambda text: "".join(f"&#{ord(one)};" for one in text),
)


@given(
    st.sampled_from(DRIVER_TEXTS),
    st.from_regex(r"[1-9][0-9]{6,15}", fullmatch=True),
    st.lists(st.tuples(st.integers(1, 4), st.sampled_from(SEPARATORS)), min_size=1, max_size=12),
    st.sampled_from(["", "+86", "0086 ", "(0", "+"]),
    st.sampled_from(SPELLINGS),
)
@settings(max_examples=150, deadline=None)
def test_every_spelling_of_a_number_is_masked(
    text: str, number: str, groups: list[tuple[int, str]], prefix: str, spelt: Callable[[str], str]
) -> None:
    parts, rest = [], number
    for size, separator in groups:
        parts.append(rest[:size] + separator)
        rest = rest[size:]
    shown = spelt(prefix + "".join(parts) + rest)
    said = redaction.masked(text.format(shown))
    assert shown not in said
    # Whatever is left of it: no run of five of its digits, in whatever spelling it came.
    template = text.format("")
    left = sum(unicodedata.digit(one, -1) >= 0 for one in said) - sum(
        unicodedata.digit(one, -1) >= 0 for one in template
    )
    assert left <= 0, said
    assert "***" in said


@pytest.mark.parametrize(
    "text",
    [
        "[Errno 111] Connect call failed ('127.0.0.1', 35432)",
        "Connect call failed ('::1', 5432, 0, 0)",
        "127.0.0.1:54321 refused",
        "(1146, \"Table 'app.relations' doesn't exist\")",
        "no such table: relations",
        'near "SELEC": syntax error',
        "unexpected character: line 12 column 34 (char 1234)",
        "'utf-8' codec can't decode byte 0xa0 in position 13: invalid start byte",
        'password authentication failed for user "precall"',
        "unsupported startup parameter: lock_timeout",
    ],
)
def test_positions_and_codes_are_not_masked(text: str) -> None:
    assert redaction.masked(text) == text


@pytest.mark.parametrize(
    "number",
    ["138-0000-0021", "+86 138 0000 0021", "(0571) 8888 0000", "138\u00a00000\u00a00021", "138.0000.0021"],
)
def test_a_grouped_number_is_masked(number: str) -> None:
    assert redaction.concealed(f"tel {number}, see") == "tel ***, see"


@pytest.mark.parametrize(
    "text",
    ["2026-11-22 21:06:54", "0.013900000003", "192.168.100.200", "http://127.0.0.1:35873/v1", "60 s: 1200"],
)
def test_digits_that_only_look_grouped_are_not_masked(text: str) -> None:
    assert redaction.concealed(text) == text


def test_ids_are_logged_in_their_fields_and_numbers_are_not() -> None:
    stream = io.StringIO()
    log.configure("info", "json", stream)
    ids = ["1000000768798832", "100000000001"]
    log.get_logger("precall.test").warning("bindings.suspect", subs_ids=ids, other=["13800000001"])
    log.configure("info")
    body = json.loads(stream.getvalue())
    assert (body["subs_ids"], body["other"]) == (ids, ["***"])
