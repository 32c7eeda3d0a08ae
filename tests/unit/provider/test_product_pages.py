"""The two product pages: their requests, replies and tables, against the code that sends and reads them."""

import json
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import pytest

from precall.config.schema import ProviderConfig
from precall.core.calls.call import query_date
from precall.core.calls.causes import CallEnd, judge, meaning
from precall.core.calls.products import PRODUCTS, product_number
from precall.core.model import Answer, Failure, Status
from precall.provider import DETAIL, STATUS, CallDetail, read_detail, read_status
from precall.provider.failures import classify
from precall.provider.receipts import DETAIL_FACTS
from precall.simulator import Binding, Call, Scenario
from precall.simulator.service import Delivery, Service
from tests.support.signed_requests import acs3_envelope, rpc_envelope

PAGES = Path(__file__).parents[2] / "data" / "product_pages"
SAMPLE_CALL_NO = "150000000"
SAMPLE_DATE = 1553774465
"""QueryDate of the page's example, in seconds."""
MIDNIGHT = 1553702400
NUMBERS = ("18767130000", "13735460000", "05344750000")
BINDING = Binding(subs_id="1000000768798832", pool_key="FC123456", number_x="17000000000", status=4)


def request(name: str) -> dict[str, str]:
    """The parameters of a request example, which the page breaks into lines."""
    text = (PAGES / f"{name}_request.txt").read_text(encoding="utf-8").replace("\n", "")
    return {key: value for key, value in parse_qsl(text.partition("?")[2]) if key != "Action"}


def served(parameters: dict[str, str], action: str, envelope: Any = acs3_envelope, **scenario: Any) -> bytes:
    now = SAMPLE_DATE + 3600.0
    service = Service(Scenario(**scenario), now)
    delivery = service.handle(envelope(parameters, now, action=action), now)
    assert isinstance(delivery, Delivery)
    return delivery.reply.body


# -- QueryCallStatus


def test_the_request_of_query_call_status_is_understood() -> None:
    assert request("query_call_status") == {"SubsId": "1000000768798832", "PoolKey": "FC123456"}
    body = served(request("query_call_status"), STATUS, bindings=(BINDING,))
    answer = read_status(200, None, "", body)
    assert isinstance(answer, Answer)
    assert (answer.status, answer.called_no) == (Status.EXPIRED, "17000000000")


@pytest.mark.parametrize("envelope", [acs3_envelope, rpc_envelope])
def test_the_call_no_of_the_page_is_accepted(envelope: Any) -> None:
    given = request("query_call_status") | {"CallNo": SAMPLE_CALL_NO}
    assert isinstance(
        read_status(200, None, "", served(given, STATUS, envelope, bindings=(BINDING,))), Answer
    )


@pytest.mark.parametrize("missing", ["SubsId", "PoolKey"])
def test_parameters_that_the_page_requires_are_required(missing: str) -> None:
    given = {name: value for name, value in request("query_call_status").items() if name != missing}
    assert json.loads(served(given, STATUS, bindings=(BINDING,)))["Code"] == f"Missing{missing}"


@pytest.mark.parametrize("form", ["json", "xml"])
@pytest.mark.parametrize(
    ("status", "called_no", "answer"),
    [
        (1, "17000000000", Answer(Status.NORMAL, "17000000000")),
        (2, "17100000000", Answer(Status.TEMPORARY, "17100000000")),
        (3, None, Answer(Status.UNREACHABLE)),
        (4, "17000000000", Answer(Status.EXPIRED, "17000000000")),
    ],
)
def test_the_four_statuses_in_the_layout_of_the_page(
    form: str, status: int, called_no: str | None, answer: Answer
) -> None:
    body = (PAGES / f"query_call_status.{form}").read_text(encoding="utf-8")
    if form == "json":
        body = body.replace('"Status":4', f'"Status":{status}')
        body = body.replace('"CalledNo":"17000000000"', f'"CalledNo":{json.dumps(called_no)}')
    else:
        body = body.replace("<Status>4<", f"<Status>{status}<").replace("17000000000", called_no or "null")
    read = read_status(200, None, "", body.encode())
    assert isinstance(read, Answer)
    assert (read.status, read.called_no, read.malformed) == (answer.status, answer.called_no, False)


# -- QueryCallDetailByCallId


def test_the_request_of_query_call_detail_is_understood_and_its_date_asks_for_1970() -> None:
    given = request("query_call_detail")
    assert given == {
        "CallId": "116014888060^102816313060",
        "ProdId": "11000000300006",
        "QueryDate": str(SAMPLE_DATE),
    }
    call = Call(call_id=given["CallId"], called_at=float(SAMPLE_DATE), state="502", after=0.0, ends=0.0)
    as_it_stands = read_detail(200, None, "", served(given, DETAIL, calls=(call,)))
    assert isinstance(as_it_stands, CallDetail)
    assert as_it_stands.data is None
    [day] = query_date(SAMPLE_DATE)
    in_milliseconds = read_detail(
        200, None, "", served(given | {"QueryDate": str(day)}, DETAIL, calls=(call,))
    )
    assert isinstance(in_milliseconds, CallDetail)
    assert in_milliseconds.state == "502"


def test_the_date_is_a_day_in_milliseconds() -> None:
    assert query_date(SAMPLE_DATE) == [MIDNIGHT * 1000]


def test_the_products_of_the_page_have_names() -> None:
    assert product_number(request("query_call_detail")["ProdId"]) == PRODUCTS["voice-notification"]
    assert len(PRODUCTS) == 6


@pytest.mark.parametrize("missing", ["CallId", "ProdId", "QueryDate"])
def test_parameters_that_the_detail_page_requires_are_required(missing: str) -> None:
    given = {name: value for name, value in request("query_call_detail").items() if name != missing}
    assert json.loads(served(given, DETAIL))["Code"] == f"Missing{missing}"


@pytest.mark.parametrize("form", ["json", "xml"])
def test_the_data_of_the_page_can_be_read_in_replies(form: str) -> None:
    data = (PAGES / "query_call_detail_data.txt").read_text(encoding="utf-8").strip()
    body = (PAGES / f"query_call_detail.{form}").read_text(encoding="utf-8")
    if form == "json":
        body = body.replace('"Data":""', f'"Data":{json.dumps(data)}')
    else:
        body = body.replace("<Data></Data>", f"<Data>{data}</Data>")
    detail = read_detail(200, None, "", body.encode())
    assert isinstance(detail, CallDetail)
    assert detail.data is not None
    assert set(detail.data) == {
        "caller",
        "startDate",
        "stateDesc",
        "duration",
        "callerShowNumber",
        "gmtCreate",
        "state",
        "endDate",
        "calleeShowNumber",
        "callee",
    }
    assert (detail.state, detail.state_desc, detail.duration) == ("502", "502", 0)
    assert (detail.caller, detail.callee) == NUMBERS[:2]
    assert meaning(detail.state) == "SIP 502 Bad Gateway"
    assert judge(detail.state, detail.duration) is CallEnd.NOT_CONNECTED
    kept = {name for name in detail.data if name in DETAIL_FACTS}
    assert not [name for name in kept if str(detail.data[name]) in NUMBERS]
    assert not [number for number in NUMBERS if number in repr(detail)]


def test_the_page_allows_a_hundred_calls_a_minute() -> None:
    assert ProviderConfig().call_detail_rate_per_minute == 100


# -- what the pages say of errors and of the console


def test_error_advice_names_the_places_of_the_page() -> None:
    gone, refused = classify("isv.SUBS_NOT_EXIST", 200), classify("isv.POOLKEY_NOT_EXISTS", 200)
    assert (gone.failure, refused.failure) == (Failure.GONE, Failure.REFUSED)
    for place in ("号码管理 > 号码详情", "BindAxb"):
        assert place in gone.detail
    assert "号码池管理" in refused.detail
