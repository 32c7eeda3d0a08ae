"""The guard before log, terminal and crash; and that no value of ours shows a number of its own accord."""

import asyncio
import io
import json
import logging
import subprocess
import sys
from typing import Any, Literal

import pytest
from tests.builders import NOW, POLICY, TEMP, A, B, X, binding, observed, row

from precall import log, secrecy
from precall.api.bodies import BindingBody, LookupBody, OverrideBody
from precall.api.queries import NumberQuery, RouteQuery
from precall.core.model import Action, Means, Override, Route, Row, State
from precall.core.routing import Dial, decide
from precall.feed import Batch, Entry
from precall.packing import FACTS, Packed, pack
from precall.provider import Credential, Credentials

SECRET = "hush/hush+secret="


@pytest.fixture
def stream() -> Any:
    yield io.StringIO()
    log.configure("debug")


@pytest.mark.parametrize("form", ["json", "text"])
def test_neither_a_traceback_nor_a_library_tells_a_number_or_a_secret(
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


def test_what_is_no_phone_number_is_left() -> None:
    for text in (
        "127.0.0.1:35873",
        "2026-11-22T21:06:54.406238Z",
        "E7F9-12345678-A",
        "0x7f0012345678",
        "line 1234",
    ):
        assert secrecy.concealed(text) == text
    assert secrecy.concealed(f"({A}, '{B}') +8613800000001") == "(***, '***') ***"
    assert secrecy.concealed(f'sip:{A}@here {{"number":{B}}}') == 'sip:***@here {"number":***}'
    assert secrecy.without_secrets(A) == A


def test_short_secrets_are_not_looked_for_and_old_ones_forgotten() -> None:
    secrecy.keep("", "a", "error")
    assert secrecy.without_secrets("an error") == "an error"
    secrecy.keep("the-oldest-secret")
    for place in range(secrecy.MOST):
        secrecy.keep(f"a-later-secret-{place:03}")
    assert secrecy.without_secrets("the-oldest-secret, a-later-secret-099") == "the-oldest-secret, ***"


async def test_a_task_that_crashes_tells_no_number(stream: io.StringIO) -> None:
    log.configure("debug", "text", stream)

    async def crash() -> None:
        raise ValueError(f"cannot dial {A}")

    task = asyncio.create_task(crash())
    await asyncio.wait({task})
    asyncio.get_running_loop().call_exception_handler({"message": f"lost {B}", "exception": task.exception()})
    said = stream.getvalue()
    assert "ValueError: cannot dial ***" in said
    assert [number for number in (A, B) if number in said] == []


def test_a_command_that_crashes_tells_neither() -> None:
    code = (
        "import sys; from precall import cli; from precall.secrecy import keep\n"
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


def test_no_value_shows_a_number_of_its_own_accord() -> None:
    temporary = row(observed(State.TEMPORARY))
    pinned = Row(
        temporary.binding, temporary.state, Override(Action.DIAL_X, Means.REGISTERED, None, "", 1, NOW)
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
        Dial(Action.DIAL_X, route.reason, X),
        Entry(1, NOW, "1", "FC1", route, X.encode()),
        Batch([], X.encode()),
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


def test_ids_of_bindings_pass_as_fields_of_their_own_and_numbers_do_not() -> None:
    stream = io.StringIO()
    log.configure("info", "json", stream)
    ids = ["1000000768798832", "100000000001"]
    log.get_logger("precall.test").warning("bindings.suspect", subs_ids=ids, other=["13800000001"])
    log.configure("debug")
    told = json.loads(stream.getvalue())
    assert (told["subs_ids"], told["other"]) == (ids, ["***"])
