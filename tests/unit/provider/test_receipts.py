"""What the provider pushes: read if it can be, refused by its field if not, and no number kept."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from precall.core.calls.call import Call, CallResult, CallSource, NumberReport
from precall.core.calls.causes import meaning
from precall.core.duplicate_keys import Contradiction
from precall.provider import BadReceipt, IgnoredReceipt, kept, read_receipt
from precall.provider.receipts import DETAIL_FACTS

NOW = 1_790_000_000.0
SECRET = {
    "pool_key": "FC100000022",
    "sub_id": 1000000768798832,
    "call_id": "43612633712c****",
    "phone_no": "13800000001",
    "secret_no": "17000000001",
    "peer_no": "13900000001",
    "called_display_no": "17000000001",
    "call_type": 0,
    "call_time": "2026-01-02 03:04:05",
    "call_out_time": "2026-01-02 03:04:06",
    "ring_time": "2026-01-02 03:04:08",
    "free_ring_time": "",
    "start_time": "2026-01-02 03:04:12",
    "release_time": "2026-01-02 03:04:43",
    "release_dir": 1,
    "release_cause": 16,
    "unconnected_cause": 0,
    "record_url": "",
    "out_id": "x",
    "a new field": [1],
}
CALLED = 1767294245.0
ABNORMAL = {
    "secretNo": "17000000001",
    "partnerKey": "FC100000022",
    "noStatus": 0,
    "timestamp": 1767294245000,
}


def read(**changes: Any) -> Call:
    result = read_receipt(SECRET | changes, NOW)
    assert isinstance(result, Call)
    return result


def test_a_finished_call() -> None:
    call = read()
    assert (call.call_id, call.subs_id, call.called_at) == ("43612633712c****", "1000000768798832", CALLED)
    assert (call.result, call.source, call.state, call.duration) == (
        CallResult.CONNECTED,
        CallSource.RECEIPT,
        "16",
        31,
    )
    assert (call.reported_at, call.next_at, call.prod_id) == (NOW, None, 0)
    assert json.loads(call.detail)["release_dir"] == 1


def test_no_phone_number_is_kept() -> None:
    assert not any(str(SECRET[name]) in repr(read()) for name in ("phone_no", "peer_no", "secret_no"))
    detail = kept({"startDate": "13800000001", "endDate": "2026-01-02 03:04:05", "caller": "1"}, DETAIL_FACTS)
    assert json.loads(detail) == {"endDate": "2026-01-02 03:04:05"}


@pytest.mark.parametrize(
    ("changes", "result", "state"),
    [
        ({"start_time": "2026-01-02 03:04:43"}, CallResult.NOT_CONNECTED, "16"),
        ({"start_time": "", "release_cause": 17}, CallResult.NOT_CONNECTED, "17"),
        ({"start_time": "", "release_cause": "1"}, CallResult.FAILED, "1"),
        ({"start_time": None, "release_cause": 38}, CallResult.FAILED, "38"),
        (
            {"start_time": "", "release_cause": None, "unconnected_cause": 27},
            CallResult.NOT_CONNECTED,
            "unconnected_27",
        ),
        ({"start_time": "", "release_cause": 0, "unconnected_cause": 0}, CallResult.NOT_CONNECTED, ""),
        ({"start_time": "", "release_cause": 13800000001}, CallResult.NOT_CONNECTED, ""),
        (
            {"start_time": "", "release_cause": "", "unconnected_cause": 13800000001},
            CallResult.NOT_CONNECTED,
            "",
        ),
        ({"start_time": "", "release_cause": "", "unconnected_cause": ""}, CallResult.NOT_CONNECTED, ""),
        ({"start_time": "2026-01-02 03:05:43", "release_cause": 16}, CallResult.NOT_CONNECTED, "16"),
    ],
)
def test_a_duration_of_zero_is_not_connected(changes: dict[str, Any], result: CallResult, state: str) -> None:
    call = read(**changes)
    assert (call.result, call.state, call.duration) == (result, state, 0)


def test_ids_as_text_and_missing_times() -> None:
    assert read(sub_id="1000000768798832") == read()
    assert read(call_time="").called_at == CALLED + 1
    assert read(call_time=None, call_out_time="no").called_at == CALLED + 7
    assert read(call_time=None, call_out_time="no", start_time="").called_at == CALLED + 38


@pytest.mark.parametrize("call_type", [2, 3, "3", 5, 6, True, "x"])
def test_text_messages_are_ignored(call_type: object) -> None:
    assert read_receipt(SECRET | {"call_type": call_type}, NOW) is IgnoredReceipt.MESSAGE


@pytest.mark.parametrize("call_type", [0, 1, 4, "0", None, ""])
def test_calls_in_either_direction_are_accepted(call_type: object) -> None:
    assert read(call_type=call_type).call_id == SECRET["call_id"]


ABOUT = {
    name: SECRET[name] for name in ("pool_key", "sub_id", "call_id", "call_type", "call_time", "secret_no")
}


@pytest.mark.parametrize(
    ("element", "passed"),
    [
        (ABOUT | {"unconnected_cause": 0, "control_type": "CONTINUE"}, IgnoredReceipt.UNDER_WAY),
        (ABOUT | {"ring_time": "2026-01-02 03:04:08"}, IgnoredReceipt.UNDER_WAY),
        (
            ABOUT | {"ringTime": "2026-01-02 03:04:08", "start_time": "2026-01-02 03:04:12"},
            IgnoredReceipt.UNDER_WAY,
        ),
        (
            SECRET | dict.fromkeys(("release_time", "release_dir", "release_cause"), None),
            IgnoredReceipt.UNDER_WAY,
        ),
        (
            ABOUT | {"record_url": "https://x", "release_time": "2026-01-02 03:04:43"},
            IgnoredReceipt.RECORDING,
        ),
        ({"callId": "c", "bizDuration": 3, "sentences": [], "statusCode": "1"}, IgnoredReceipt.RECORDING),
        (SECRET | {"sub_id": None}, IgnoredReceipt.UNBOUND),
        (SECRET | {"sub_id": "", "unconnected_cause": 2}, IgnoredReceipt.UNBOUND),
        ({name: value for name, value in SECRET.items() if name != "sub_id"}, IgnoredReceipt.UNBOUND),
        (SECRET | {"sub_id": 0}, IgnoredReceipt.UNBOUND),
    ],
)
def test_only_the_report_of_an_ended_call_on_a_binding_ends_a_call(
    element: object, passed: IgnoredReceipt
) -> None:
    assert read_receipt(element, NOW) is passed


@pytest.mark.parametrize("cause", [1, 2, 3, 4, "1"])
@pytest.mark.parametrize("released", [None, 1, 16, 38])
def test_unconnected_causes_have_their_own_table(cause: object, released: int | None) -> None:
    """1 is a blacklist there, and an unallocated number in the network's list."""
    call = read(start_time="", unconnected_cause=cause, release_cause=released)
    if str(cause) == "4" and released:
        assert call.state == str(released)
    else:
        assert (call.result, call.state) == (CallResult.NOT_CONNECTED, f"unconnected_{cause}")
        assert meaning(call.state) != meaning("none that is known")


@pytest.mark.parametrize(
    ("cause", "state"), [(0, "unconnected_4"), (1, "unconnected_1"), (None, "unconnected_4")]
)
def test_an_intercepted_call_does_not_count_against_the_number(cause: int | None, state: str) -> None:
    call = read(start_time="", call_type=4, unconnected_cause=cause, release_cause=1)
    assert (call.result, call.state) == (CallResult.NOT_CONNECTED, state)


def test_a_number_report_is_parsed() -> None:
    result = read_receipt(ABNORMAL, NOW)
    assert result == NumberReport("17000000001", "FC100000022", abnormal=True, at=CALLED)
    assert "170" not in repr(result)
    again = read_receipt(ABNORMAL | {"noStatus": "1", "partnerKey": None}, NOW)
    assert again == NumberReport("17000000001", "", abnormal=False, at=CALLED)


@pytest.mark.parametrize(
    ("element", "field"),
    [
        (None, ""),
        ("x", ""),
        ([], ""),
        ({}, ""),
        (SECRET | {"call_id": ""}, "call_id"),
        (SECRET | {"call_id": "a b"}, "call_id"),
        (SECRET | {"call_id": "x" * 129}, "call_id"),
        (SECRET | {"call_id": True}, "call_id"),
        (SECRET | {"sub_id": 1.5}, "sub_id"),
        (SECRET | {"sub_id": "abc"}, "sub_id"),
        (Contradiction("call_id"), ""),
        (SECRET | {"release_time": ""}, "release_time"),
        (SECRET | {"release_time": "yesterday"}, "release_time"),
        (SECRET | {"release_time": 7}, "release_time"),
        (ABNORMAL | {"secretNo": "x"}, "secretNo"),
        (ABNORMAL | {"noStatus": 2}, "noStatus"),
        (ABNORMAL | {"noStatus": True}, "noStatus"),
        (ABNORMAL | {"timestamp": "soon"}, "timestamp"),
        (ABNORMAL | {"partnerKey": 7}, "partnerKey"),
    ],
)
def test_an_invalid_receipt_names_its_field(element: object, field: str) -> None:
    with pytest.raises(BadReceipt) as caught:
        read_receipt(element, NOW)
    assert caught.value.field == field


leaves = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12)
values = leaves | st.lists(leaves, max_size=2) | st.dictionaries(st.text(max_size=5), leaves, max_size=2)


@given(st.dictionaries(st.sampled_from([*SECRET, *ABNORMAL]), values))
def test_any_receipt_is_read_or_refused(changes: dict[str, Any]) -> None:
    for base in ({}, SECRET, ABNORMAL):
        try:
            result = read_receipt(base | changes, NOW)
        except BadReceipt:
            continue
        assert isinstance(result, Call | NumberReport | IgnoredReceipt)
        if isinstance(result, Call):
            assert result.result is not CallResult.FAILED or not result.state.startswith("unconnected")
