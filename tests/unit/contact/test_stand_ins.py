"""Stand-ins: no real value is left, equal values stay equal, and everything that a replay needs is kept."""

import json
import random
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from precall.contact import StandIns
from precall.core import numbers

SUBS_ID, POOL = "1000000768798832", "FC123456"


def stand_ins() -> StandIns:
    return StandIns(random.Random(7).randrange)


@pytest.mark.parametrize(
    "number",
    [
        "13800000001", "17000000000", "700123456789012", "057188880000", "02087654321", "+85291234567", "4008001234",
        "95013123456789", "1069012345678", "+14155552671", "88880000",
    ],
)  # fmt: skip
def test_a_stand_in_is_a_number_of_the_same_form(number: str) -> None:
    made = stand_ins().number(number)
    assert made != number
    assert re.sub("[0-9]", "0", made) == re.sub("[0-9]", "0", number)
    assert numbers.clean(made) == made
    assert len(numbers.canonical(made)) == len(numbers.canonical(number))


def test_every_spelling_of_a_number_gets_the_same_stand_in() -> None:
    masks = stand_ins()
    first = masks.number("13800000001")
    for spelling in ("+8613800000001", "8613800000001", "+86 138-0000-0001", "１３８００００００01"):
        made = masks.number(spelling)
        assert made != spelling
        assert numbers.same(made, first)
    assert masks.number("138 0000 0001") == f"{first[:3]} {first[3:7]} {first[7:]}"


def test_stand_ins_differ_between_numbers_and_between_files() -> None:
    masks = StandIns(random.Random(1).randrange)
    real = [f"1380000{serial:04}" for serial in range(2000)]
    made = [masks.number(number) for number in real]
    assert len(set(made)) == len(real)
    assert masks.number(real[5]) == made[5]
    other = StandIns(random.Random(2).randrange)
    assert [other.number(number) for number in real] != made


def test_a_masked_reply_keeps_codes_request_ids_and_times() -> None:
    body = {
        "Message": "OK",
        "RequestId": "E7F99446-8191-43C0-99B5-F58A6AEAD7D5",
        "SecretCallStatusDTO": {"Status": 2, "CalledNo": "17000000000", "Extension": "123"},
        "ExpireDate": "2026-01-02 03:04:05",
        "GroupId": 1000000768798832,
        "Code": "100008.0",
    }
    masks = stand_ins()
    masked = json.loads(masks.text(json.dumps(body)))
    number = masked["SecretCallStatusDTO"].pop("CalledNo")
    assert number == masks.number("17000000000") != "17000000000"
    assert masked.pop("GroupId") != body.pop("GroupId")
    del body["SecretCallStatusDTO"]["CalledNo"]  # type: ignore[attr-defined]
    assert masked == body


def test_xml_is_masked_like_json() -> None:
    masks = stand_ins()
    text = "<R><RequestId>A90E4451-FED7-49D2-87C8-00700A8C4D0D</RequestId><Code>OK</Code><No>13800000001</No></R>"
    assert masks.text(text) == text.replace("13800000001", masks.number("13800000001"))


@pytest.mark.parametrize(
    "text",
    [
        '{"Code":"isv.13800000001"}',
        '{"RequestId":"13800000001"}',
        '{"RequestId":"138-0000-0001"}',
        '{"Code":"isv.138-0000-0001"}',
        "\0".join("13800000001"),
        "<Code>13800000001</Code>",
        "no 138-0000-0001 here",
        "no +86 (138) 0000 0001 here",
        "CallNo%3D13800000001%26",
        "CallNo%253D%252B8613800000001",
        "１３８００００００01",
        r'"\u0031\u0033800000001"',
        "&#49;&#51;800000001",
        "&#x31;&#x33;800000001",
    ],
)
def test_a_number_is_masked_in_any_context(text: str) -> None:
    made = stand_ins().text(text)
    digits = "".join(str(int(one)) for one in made if one.isdecimal())
    assert "13800000001" not in digits
    assert "800000001" not in digits


def test_an_id_has_the_same_stand_in_everywhere() -> None:
    masks = stand_ins()
    made, pool = masks.id(SUBS_ID), masks.id(POOL)
    assert re.fullmatch("[1-9][0-9]{15}", made)
    assert re.fullmatch("FC[0-9]{6}", pool)
    assert masks.text(f'SubsId%3D{SUBS_ID}%26PoolKey%3D{POOL} "{SUBS_ID}"') == (
        f'SubsId%3D{made}%26PoolKey%3D{pool} "{made}"'
    )


def test_a_short_id_does_not_mask_a_status() -> None:
    masks = stand_ins()
    masks.id("2")
    assert masks.text('{"Status":2,"Code":"OK"}') == '{"Status":2,"Code":"OK"}'


def test_keys_and_tokens_are_removed_even_if_escaped() -> None:
    masks = stand_ins()
    masks.hide(["LTAIkey", "CAIStoken+/=="])
    text = "AccessKeyId%3DLTAIkey%26SecurityToken%3DCAIStoken%252B%252F%253D%253D and CAIStoken%2B%2F%3D%3D"
    assert masks.text(text) == "AccessKeyId%3D***%26SecurityToken%3D*** and ***"


def test_values_that_identify_no_one_are_kept() -> None:
    masks = stand_ins()
    masks.keep(["999999999999999999"])
    assert masks.id("999999999999999999") == "999999999999999999"
    assert masks.text('"999999999999999999"') == '"999999999999999999"'


@given(st.from_regex(r"\A1[3-9][0-9]{9}\Z"), st.text(alphabet=' ",:{}<>%=Dx-', max_size=6))
def test_no_mobile_number_survives_in_any_text(number: str, around: str) -> None:
    assert number not in StandIns(random.Random(3).randrange).text(f"{around}{number}{around}")
