"""Times of calls as operators write them, and what one probing reply proves."""

import pytest
import typer

from precall.cli.call_detail import placed_at
from precall.cli.direct import effect, explained
from precall.cli.doctor import StepVerdict, action_findings, clock_finding
from precall.cli.options import duration
from precall.cli.provider import MEANING
from precall.core.model import Answer, Failure, NonAnswer, Status
from precall.provider import RawReply, TransportTrouble
from precall.provider.failures import classify, trouble


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("1553774465000", 1553774465.0),
        ("2019-03-28T20:01:05+08:00", 1553774465.0),
        ("2019-03-28T12:01:05Z", 1553774465.0),
    ],
)
def test_the_time_of_a_call_is_parsed(text: str, at: float) -> None:
    assert placed_at(text) == at


def test_epoch_seconds_are_refused_and_explained() -> None:
    with pytest.raises(typer.BadParameter, match=r"milliseconds.*1553774465000"):
        placed_at("1553774465")


@pytest.mark.parametrize("text", ["155377446500", "yesterday", "2019-03-28T20:01:05", "-1553774465000"])
def test_ambiguous_times_are_refused(text: str) -> None:
    with pytest.raises(typer.BadParameter):
        placed_at(text)


@pytest.mark.parametrize(
    ("text", "value"), [("5s", 5), ("0.3s", 0.3), ("2m", 120), ("7", 7), ("250ms", 0.25)]
)
def test_durations(text: str, value: float) -> None:
    assert duration(text) == value


@pytest.mark.parametrize("text", ["", "soon", "5 parsecs", "-1s"])
def test_an_invalid_duration_is_a_usage_error(text: str) -> None:
    with pytest.raises(typer.BadParameter):
        duration(text)


def test_every_status_has_a_meaning() -> None:
    assert set(MEANING) == set(Status)


def test_what_a_failed_check_means_for_routes_is_said_once_and_for_calls_never() -> None:
    for code, status in (("InvalidAccessKeyId.NotFound", 404), ("isv.NO_RIGHT", 200), ("HTTP_DENIED", 403)):
        read = classify(code, status)
        assert "route" not in explained(read)
        assert effect(read).count("route") == 1
    assert "probe" in effect(classify("InvalidAccessKeyId.NotFound", 404))
    assert "probe" not in effect(classify("isv.SUBS_NOT_EXIST", 200))
    for what in TransportTrouble:
        assert "route" not in explained(trouble(what)), what


@pytest.mark.parametrize(
    ("ahead", "verdict"),
    [
        (0, StepVerdict.OK),
        (-20, StepVerdict.OK),
        (31, StepVerdict.WARN),
        (-600, StepVerdict.WARN),
        (901, StepVerdict.FAIL),
    ],
)
def test_the_clock_is_judged_by_the_date_header(ahead: float, verdict: StepVerdict) -> None:
    reply = RawReply(0.1, 200, {"Date": "Thu, 28 Mar 2019 12:01:05 GMT"})
    assert clock_finding(reply, 1553774465 + ahead).verdict is verdict


def test_without_a_date_header_the_clock_is_not_judged() -> None:
    assert clock_finding(RawReply(0.1), 1553774465).found == ""


@pytest.mark.parametrize(
    ("read", "verdict", "out_of_reach"),
    [
        (Answer(Status.NORMAL), StepVerdict.OK, False),
        (NonAnswer(Failure.GONE, "isv.SUBS_NOT_EXIST"), StepVerdict.OK, False),
        (NonAnswer(Failure.REFUSED, "isv.POOLKEY_NOT_EXISTS"), StepVerdict.OK, False),
        (NonAnswer(Failure.THROTTLED, "Throttling.User"), StepVerdict.WARN, False),
        (
            NonAnswer(Failure.ACCOUNT, "SignatureDoesNotMatch", "refused: check the key"),
            StepVerdict.FAIL,
            False,
        ),
        (NonAnswer(Failure.ACCOUNT, "InvalidApi.NotFound", "delisted"), StepVerdict.FAIL, False),
        (NonAnswer(Failure.MALFORMED, "bad_json", "not JSON"), StepVerdict.FAIL, False),
        (NonAnswer(Failure.TRANSIENT, "timeout", "no reply"), StepVerdict.FAIL, True),
    ],
)
def test_replies_about_unknown_objects_prove_access(
    read: Answer | NonAnswer, verdict: StepVerdict, out_of_reach: bool
) -> None:
    [finding] = action_findings("QueryCallStatus", read)
    assert (finding.verdict, finding.out_of_reach) == (verdict, out_of_reach)
    assert finding.found
    assert finding.fix or verdict is StepVerdict.OK
