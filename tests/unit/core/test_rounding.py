"""No figure that leaves the process has enough digits to read like a phone number."""

import io
import json
import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from precall.api.handlers.bindings import encode_plan
from precall.api.schemas.bindings import encode_run
from precall.core.ages import Tick
from precall.core.model import Answer, Status
from precall.core.planning.rates import Rate
from precall.core.rounding import micro, significant
from precall.core.routing.state import CheckResult
from precall.engine.checker import history_line
from precall.engine.status_queries import QueryReply, StatusQuery
from precall.telemetry import logging as log
from tests.support.builders import A, row

LONG = float(f"0.0{A[1:]}3")
"""Eleven of its digits are a phone number once the point is passed over."""
ELEVEN = re.compile(r"[0-9]{11}")


@given(st.floats(0, 366 * 86_400.0))
@example(LONG)
@example(0.1 + 0.2)
def test_a_duration_has_at_most_six_decimals(seconds: float) -> None:
    assert not ELEVEN.search(json.dumps(micro(seconds)))
    assert micro(seconds) == pytest.approx(seconds, abs=1e-6)


@given(st.floats(0, 1) | st.floats(0, 1e6))
@example(LONG)
@example(1 / 3)
def test_small_values_keep_their_significant_digits(figure: float) -> None:
    assert not ELEVEN.search(json.dumps(significant(figure)))
    assert significant(figure) == pytest.approx(figure, rel=1e-5, abs=0)


def test_what_is_stored_shown_and_logged_is_rounded() -> None:
    reply = Answer(Status(1), "17000000001", request_id="R")
    asked = QueryReply(reply, asked_at=0.0, seconds=LONG, now=0.0, tick=Tick(0.0))
    query = StatusQuery(row(), seq=1, since=Tick(0.0), chance=0.0)
    check = history_line(query, asked, CheckResult.STATUS_1)
    assert check.seconds == micro(LONG)
    run = dict.fromkeys(("result", "status", "number", "extension", "code", "request_id", "count"), "")
    assert encode_run(run | {"first_at": 0, "last_at": 0, "seconds": LONG, "generation": 1})[
        "seconds"
    ] == micro(LONG)
    plan = encode_plan({"age": LONG, "wrong": LONG, "next_at": 0.0, "why": "due"})
    assert plan == {"age": micro(LONG), "wrong": significant(LONG), "next_at": "", "why": "due"}
    assert Rate(LONG, LONG).export() == [micro(LONG), micro(LONG)]


def test_no_event_of_the_log_has_more() -> None:
    stream = io.StringIO()
    log.configure("info", "json", stream)
    try:
        log.get_logger("precall.test").info("a.b", seconds=LONG)
    finally:
        log.configure("info")
    assert json.loads(stream.getvalue())["seconds"] == micro(LONG)
