"""The error tree as exit codes, and a daemon's refusals as errors."""

import asyncio

import pytest

from precall import cli
from precall.cli import exit_code
from precall.cli.client import HttpAnswer
from precall.cli.session import answered, path
from precall.core.errors import (
    ConfigError,
    ListenError,
    OutOfReach,
    OutputError,
    PrecallError,
    Refusal,
    SchemaOutdated,
    StoreUnavailable,
)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ConfigError(["a.b: wrong"]), 3),
        (SchemaOutdated("run migrate"), 3),
        (StoreUnavailable("locked"), 3),
        (ListenError("taken"), 3),
        (OutOfReach("nobody"), 4),
        (OutputError("full"), 74),
        (Refusal(404, "unknown_binding", "no such binding"), 1),
        (Refusal(401, "unauthorized", "no token"), 3),
        (Refusal(403, "forbidden", "no scope"), 3),
    ],
)
def test_exit_codes(error: PrecallError, code: int) -> None:
    assert exit_code(error) == code


@pytest.mark.parametrize("sign", [KeyboardInterrupt, asyncio.CancelledError])
def test_ctrl_c_ends_a_command_with_130(sign: type[BaseException], monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted() -> None:
        raise sign

    monkeypatch.setattr(cli, "app", interrupted)
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 130


def test_a_good_answer_is_its_content() -> None:
    assert answered(HttpAnswer(204, None)) is None
    assert answered(HttpAnswer(200, {"a": 1})) == {"a": 1}


def test_a_problem_names_field_and_code() -> None:
    body = {"code": "invalid_field", "detail": "should be a phone number", "field": "number_a"}
    with pytest.raises(Refusal, match=r"number_a: should be a phone number \(invalid_field\)") as refused:
        answered(HttpAnswer(422, body))
    assert refused.value.status == 422


@pytest.mark.parametrize("content", [None, "<html>", {"code": "store_unavailable", "detail": "not now"}])
def test_a_daemon_that_cannot_answer_is_out_of_reach(content: object) -> None:
    with pytest.raises(OutOfReach):
        answered(HttpAnswer(503, content))


def test_an_id_is_escaped_in_the_path() -> None:
    assert path("routes", "../x?y") == "/v1/routes/..%2Fx%3Fy"
