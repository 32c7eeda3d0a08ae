"""The order, pace and cost of the probes, by a virtual clock and with a provider of one reply."""

import asyncio
import itertools
import json
from collections.abc import Mapping
from typing import Any, cast

import pytest

from precall.contact import (
    PROBES,
    Contact,
    ContactClock,
    ContactRecord,
    ContactVerdict,
    Limits,
    Subject,
    SubjectKind,
    Subjects,
    chosen,
    findings,
)
from precall.contact.calls import AskedCall
from precall.contact.probes import Providers
from precall.core.model import Binding
from precall.provider import RawReply
from tests.support.virtual_time import VirtualLoop

RATE = 4.0
LIVE = Subject(
    SubjectKind.LIVE, Binding("1000000768798832", "FC1", "17000000001", "13800000001", "13900000001")
)
OTHER = Subject(SubjectKind.EXPIRED, Binding("1000000768798833", "FC1", "17000000002", "13800000002"))


def body(code: str = "OK", status: int = 2, number: str = "17100000001") -> bytes:
    return json.dumps({"Code": code, "SecretCallStatusDTO": {"Status": status, "CalledNo": number}}).encode()


class OneReply:
    """A provider that always replies the same, and counts."""

    def __init__(self, reply: RawReply) -> None:
        self.reply, self.calls = reply, 0

    async def raw(self, _action: str, _parameters: Mapping[str, str]) -> RawReply:
        self.calls += 1
        return self.reply


def run(
    reply: "RawReply | OneReply | ByBinding", calls: int, subjects: Subjects | None = None
) -> tuple[ContactRecord, list[float]]:
    """The record of a contact, and when each call went out by the monotonic clock."""
    at: list[float] = []
    provider = OneReply(reply) if isinstance(reply, RawReply) else reply
    ways: dict[Any, Any] = {(s, f): provider for s in ("acs3", "rpc") for f in ("json", "xml")}

    async def work(loop: VirtualLoop) -> ContactRecord:
        clock = ContactClock(loop.time, loop.time)
        limits = Limits(calls, RATE, asyncio.Event())

        def noted(call: AskedCall) -> None:
            at.append(call.sent_at)

        given = subjects or Subjects((LIVE,), OTHER)
        return await Contact(cast("Providers", ways), ("acs3", "json"), given, limits, clock, noted).run()

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        record = runner.run(work(cast("VirtualLoop", runner.get_loop())))
    assert provider.calls == len(record.calls) <= calls
    return record, at


def test_calls_are_sequential_and_within_the_rate() -> None:
    record, at = run(RawReply(0.01, 200, {}, body()), 16)
    paced = [when for when, call in zip(at, record.calls, strict=True) if call.probe != "burst"]
    assert len(paced) > 10
    for earlier, later in itertools.pairwise(paced):
        assert later - earlier >= 1 / RATE - 1e-6


def test_the_remaining_budget_goes_into_one_bounded_burst() -> None:
    record, at = run(RawReply(0.01, 200, {}, body()), 500)
    burst = [when for when, call in zip(at, record.calls, strict=True) if call.probe == "burst"]
    assert len(burst) == PROBES["burst"][0]
    assert len(set(burst)) == 1
    assert all(call.subject.kind is SubjectKind.UNKNOWN for call in record.of("burst"))


@pytest.mark.slow(seconds=3)
def test_a_throttled_call_is_repeated_once_after_retry_after() -> None:
    throttled = RawReply(0.01, 400, {"x-acs-retry-after": "7000"}, body("Throttling.User"))
    record, at = run(throttled, 5)
    assert [call.probe for call in record.calls] == [
        "live",
        "live",
        "signature",
        "signature",
        "unknown_binding",
    ]
    assert at[1] - at[0] >= 7.0
    assert record.skipped["expired"] == "no calls left"


def test_the_probes_run_in_the_order_in_which_they_are_listed() -> None:
    record, _ = run(RawReply(0.01, 200, {}, body()), 40)
    assert list(dict.fromkeys(call.probe for call in record.calls)) == [
        probe for probe in PROBES if probe not in record.skipped and record.of(probe)
    ]
    assert set(record.skipped) | {call.probe for call in record.calls} | {"survey"} == set(PROBES)


def test_without_a_reply_two_probes_are_enough() -> None:
    record, _ = run(RawReply(0.01, 0), 30)
    assert {call.probe for call in record.calls} == {"live", "signature"}
    assert record.skipped["burst"] == "the provider does not reply"


def test_the_invented_binding_and_pool_are_not_in_the_file() -> None:
    given = Subjects((LIVE,), OTHER)
    assert given.unknown.binding.subs_id not in (LIVE.binding.subs_id, OTHER.binding.subs_id)
    assert given.unknown.binding.pool_key == "FC1"
    assert given.unknown_pool.binding.pool_key != "FC1"


def live(serial: int, extension: str = "") -> Subject:
    binding = Binding(str(serial), "FC1", "17000000001", "13800000001", extension=extension)
    return Subject(SubjectKind.LIVE, binding)


class ByBinding:
    """A provider that replies with the Status of each binding."""

    def __init__(self, *statuses: int) -> None:
        self.statuses = {str(serial): status for serial, status in enumerate(statuses)}
        self.calls = 0

    async def raw(self, _action: str, parameters: Mapping[str, str]) -> RawReply:
        self.calls += 1
        status = self.statuses.get(parameters.get("SubsId", ""))
        gone = body("isv.SUBS_NOT_EXIST")
        return RawReply(
            0.01, 200, {}, gone if status is None else body(status=status, number=NUMBERS[status])
        )


NUMBERS = {1: "17000000001", 2: "17100000001", 3: ""}


def reasons(record: ContactRecord) -> dict[str, tuple[ContactVerdict, str]]:
    return {one.assumption.name: (one.verdict, one.found) for one in findings(record, timeout=2.0, rate=RATE)}


def test_calls_that_are_left_look_for_each_status_among_all_live_bindings() -> None:
    given = Subjects((live(0), live(1), live(2), live(3)), OTHER)
    record, _ = run(ByBinding(1, 2, 3, 1), 40, given)
    assert [call.subject for call in record.of("survey")] == [live(1)]
    assert [call.subject for call in record.of("more_live")] == [live(2)]
    assert reasons(record)["status_3"] == (ContactVerdict.CONFIRMED, "no number")
    assert record.of("burst")


def test_calls_that_are_left_look_for_an_extension() -> None:
    given = Subjects((live(0), live(1), live(2), live(3), live(4, "7")), OTHER)
    record, _ = run(ByBinding(1, 2, 3, 1, 1), 40, given)
    assert [call.subject for call in record.of("more_live")] == [live(2), live(3), live(4, "7")]


def test_a_status_that_no_binding_has_is_said_of_those_that_were_asked() -> None:
    given = Subjects((live(0), live(1), live(2)), OTHER, unused=4)
    record, _ = run(ByBinding(1, 2, 1), 40, given)
    none = "none of the live bindings with an answer (3 of 7) has Status 3 now"
    assert reasons(record)["status_3"] == (ContactVerdict.NOT_SEEN, none)
    assert reasons(record)["extension"][1] == "none of the first 3 live bindings of the file has an extension"


@pytest.mark.parametrize("calls", [1, 3, 6])
def test_a_small_budget_is_the_reason_for_what_was_not_asked(calls: int) -> None:
    record, _ = run(ByBinding(1, 2), calls, Subjects((live(0), live(1, "123"))))
    found = reasons(record)
    if calls < 6:
        none = "none of the live bindings with an answer (1 of 2) has Status {} now; no calls left"
        assert found["status_2"][1] == none.format(2)
        assert found["status_3"][1] == none.format(3)
        assert found["extension"] == (ContactVerdict.NOT_SEEN, "no calls left")
        assert found["same_temporary"] == (ContactVerdict.NOT_SEEN, "no calls left")
    else:
        assert found["status_2"][0] is ContactVerdict.CONFIRMED
        assert found["extension"][0] is not ContactVerdict.NOT_SEEN


def test_a_file_without_extensions_is_the_reason_for_none() -> None:
    record, _ = run(ByBinding(1, 2), 1, Subjects((live(0), live(1))))
    assert reasons(record)["extension"][1] == "no live binding of the file has an extension"


def test_a_few_bindings_are_chosen_from_a_long_file() -> None:
    many = [(Binding(str(serial), "FC1", "17000000001", "138"), SubjectKind.LIVE) for serial in range(50)]
    ended = [(Binding(f"9{serial}", "FC1", "17000000001", "138"), SubjectKind.EXPIRED) for serial in range(5)]
    found = chosen([*many, many[0], *ended])
    assert [one.binding.subs_id for one in found.live] == ["0", "1", "2", "3", "4", "5", "6"]
    assert found.expired is not None
    assert found.expired.binding.subs_id == "90"
    assert found.unbound is None
    assert found.unused == 43
