"""Simulated calls: their results by the true state and the number dialled, and who is informed when."""

import json
from collections import Counter
from typing import Any

import pytest

from precall.simulator import Binding, Fault, FaultKind, Pool, Scenario, SimBinding
from precall.simulator.exchange import VOICE_SERVICE, Ending, PlacedCall
from precall.simulator.replies import BindingStatus
from precall.simulator.scenario import Habits, Receipts
from precall.simulator.service import Service

NOW = 1_767_294_245.0  # 2026-01-02T03:04:05+08:00
MIDNIGHT_MS = 1_767_283_200_000
X, A, B = "17000000001", "13800000001", "13900000001"
AT_FAULT = {"200004", "200005", "200012", "200117", "400", "476", "482", "500"}
AT_FAULT_CAUSES = {1, 3, 27, 34, 38, 41, 42}
EASY = Habits(busy=0, no_answer=0, powered_off=0)


def service(status: object = 1, speed: float = 1.0, **more: Any) -> tuple[Service, SimBinding]:
    facts = {"subs_id": "1", "pool_key": "P", "number_x": X, "number_a": A, "number_b": B, "status": status}
    scenario = {
        "pools": (Pool(pool_key="P", bindings=0, temporary_numbers=1),),
        "bindings": (Binding.model_validate(facts | more.pop("binding", {})),),
        "habits": EASY,
        **more,
    }
    made = Service(Scenario(**scenario), NOW, speed)
    binding = made.world.find("1")
    assert binding is not None
    return made, binding


def ending(made: Service, number: str, now: float = NOW) -> str:
    binding = made.world.find("1")
    assert binding is not None
    return made.exchange.place(binding, A, number, now).ending


@pytest.mark.parametrize(
    ("status", "reached"), [(1, {X, A, B}), (2, {A, B}), (3, {A, B}), (4, {A, B}), ("gone", {A, B})]
)
def test_a_number_reaches_somebody_by_the_truth_of_the_moment(status: object, reached: set[str]) -> None:
    made, _ = service(1 if status == "gone" else status)
    if status == "gone":
        made.world.change("1", {}, {"gone": True})
    endings = {number: ending(made, number) for number in (X, A, B, "17100000009", "")}
    assert {number for number, how in endings.items() if how == "connected"} == reached
    assert set(endings.values()) == {"connected", "failed"}


def test_a_temporary_number_is_right_while_the_binding_holds_it() -> None:
    made, _ = service(2)
    told = made.world.answer("1", "P", NOW)
    assert isinstance(told, BindingStatus)
    assert (ending(made, told.called_no), ending(made, X)) == ("connected", "failed")
    made.world.change("1", {}, {"status": 1})
    assert (ending(made, told.called_no), ending(made, X)) == ("failed", "connected")
    made.world.change("1", {}, {"status": 2, "called_no": "17199999999"})
    assert (ending(made, told.called_no), ending(made, "17199999999")) == ("failed", "connected")


def test_an_expired_binding_reaches_nobody() -> None:
    made, binding = service(1, binding={"expires_at": NOW + 10})
    assert (ending(made, X, NOW + 9), ending(made, X, NOW + 10)) == ("connected", "failed")
    call = made.exchange.place(binding, A, X, NOW + 10)
    assert (call.state, call.release_cause, call.duration) == ("200004", 1, 0)


def test_an_x_that_dies_silently_fails_while_the_provider_says_1() -> None:
    fault = Fault(kind=FaultKind.SILENT, at=10, for_=20, subs_id="1")
    made, binding = service(2, faults=(fault,))
    made.world.change("1", {}, {"status": 1})
    assert ending(made, X) == "connected"
    for status in (1, 2, 3):
        made.world.change("1", {}, {"status": status})
        assert (
            made.world.answer("1", "P", NOW + 15)
            == BindingStatus(1, X)
            == made.world.truth(binding, NOW + 15)
        )
        assert ending(made, X, NOW + 15) == "failed"
    made.world.change("1", {}, {"status": 2})
    after = made.world.answer("1", "P", NOW + 30)
    assert isinstance(after, BindingStatus)
    assert (after.status, ending(made, after.called_no, NOW + 30)) == (2, "connected")
    made.world.change("1", {}, {"status": 4})
    expired = made.world.answer("1", "P", NOW + 15)
    assert isinstance(expired, BindingStatus)
    assert expired.status == 4, "an end is no secret"


def test_callees_are_busy_or_away_at_their_rate_and_numbers_fail_by_their_own_causes() -> None:
    made, binding = service(1, habits=Habits(busy=0.1, no_answer=0.2, powered_off=0.05))
    calls = [made.exchange.place(binding, A, X, NOW) for _ in range(2000)]
    shares = {how: count / 2000 for how, count in Counter(call.ending for call in calls).items()}
    assert shares == pytest.approx(
        {"connected": 0.65, "busy": 0.1, "no_answer": 0.2, "powered_off": 0.05}, abs=0.04
    )
    assert {call.state for call in calls} == {"200000", "200002", "200003", "200010"}
    assert all((call.duration > 0) is (call.ending == "connected") for call in calls)
    made.world.change("1", {}, {"status": 3})
    failing = [made.exchange.place(binding, A, X, NOW) for _ in range(500)]
    assert {call.ending for call in failing} == {"failed"}
    assert {call.state for call in failing} <= AT_FAULT
    assert {call.release_cause for call in failing} <= AT_FAULT_CAUSES
    assert len({call.state for call in failing}) > 3


def test_the_comparison_meets_the_callee_in_the_same_mood_and_is_told_to_nobody() -> None:
    made, binding = service(3, habits=Habits(handset=1.0))
    real = [made.exchange.place(binding, A, B, NOW) for _ in range(50)]
    known = len(made.receipts)
    assert all(made.exchange.compare(call, X).ending == "failed" for call in real)
    made.world.change("1", {}, {"status": 1})
    assert [made.exchange.compare(call, X).ending for call in real] == [call.ending for call in real]
    assert [made.exchange.try_out(binding, A, X, NOW).ending for _ in range(20)]
    assert len(made.receipts) == known
    assert len({call.call_id for call in real}) == 50


def detail(made: Service, call: PlacedCall, now: float) -> dict[str, Any]:
    text = made.calls.detail(call.call_id, VOICE_SERVICE, MIDNIGHT_MS, now)
    body: dict[str, Any] = json.loads(text) if text else {}
    return body


@pytest.mark.parametrize("speed", [1.0, 60.0])
def test_a_detail_appears_minutes_later(speed: float) -> None:
    made, binding = service(1, speed)
    call = made.exchange.place(binding, A, X, NOW, handset=False)
    assert not made.receipts.take(NOW + 1e6)
    assert detail(made, call, NOW + 179 / speed) == {}
    late = detail(made, call, NOW + (180 + call.duration) / speed)
    assert (late["state"], late["duration"]) == ("200000", call.duration)
    made.world.change("1", {}, {"status": 3})
    failing = made.exchange.place(binding, A, X, NOW, handset=False)
    told = detail(made, failing, NOW + 180 / speed)
    assert (told["state"], told["duration"]) == (failing.state, 0)


def test_a_receipt_follows_the_end_of_a_call_and_some_come_twice() -> None:
    made, binding = service(1, receipts=Receipts(duplicates=0.3))
    calls = [made.exchange.place(binding, B, X, NOW, handset=True) for _ in range(200)]
    first_end = min(call.ends_at for call in calls)
    assert not made.receipts.take(first_end - 0.1)
    told = [report for report, _ in made.receipts.take(NOW + 1e6)]
    counts = Counter(report.call_id for report in told)
    assert set(counts) == {call.call_id for call in calls}
    assert 30 < sum(count == 2 for count in counts.values()) < 90
    assert [report.call_id for report in told] != sorted(counts, key=list(counts).index)
    report = next(report for report, _ in [(r, 1) for r in told] if report.call_id == calls[0].call_id)
    fields = report.fields()
    assert (fields["sub_id"], fields["pool_key"], fields["secret_no"]) == (1, "P", X)
    assert (fields["phone_no"], fields["peer_no"], fields["call_type"]) == (A, B, 1)
    assert fields["call_time"] == "2026-01-02 03:04:05"
    assert fields["start_time"] == "2026-01-02 03:04:15"
    assert (fields["release_cause"], str(fields["release_time"]) > str(fields["start_time"])) == (16, True)
    made.world.change("1", {}, {"status": 3})
    failing = made.exchange.place(binding, A, X, NOW, handset=True)
    lost = next(r for r, _ in made.receipts.take(NOW + 1e6) if r.call_id == failing.call_id).fields()
    assert lost["start_time"] == lost["release_time"]
    assert (lost["release_cause"], lost["call_type"]) == (failing.release_cause, 0)


def test_a_call_to_a_party_itself_is_none_of_the_providers_business() -> None:
    made, binding = service(3)
    call = made.exchange.place(binding, A, B, NOW, handset=True)
    assert (call.ending, call.handset) == (Ending.CONNECTED, False)
    assert not made.receipts.take(NOW + 1e6)


def test_the_same_seed_gives_the_same_calls() -> None:
    first, second = (service(1, habits=Habits()) for _ in range(2))
    calls = [
        [made.exchange.place(binding, A, X, NOW) for _ in range(50)] for made, binding in (first, second)
    ]
    assert calls[0] == calls[1]


def test_a_receipt_is_tried_a_few_times() -> None:
    made, binding = service(1, receipts=Receipts(duplicates=0))
    made.exchange.place(binding, A, X, NOW, handset=True)
    now, tries = NOW + 1e6, 0
    while batch := made.receipts.take(now):
        report, tries = batch[0]
        made.receipts.put_back(report, tries, now)
        now += 10
    assert tries == 5
