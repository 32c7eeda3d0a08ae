"""The official clients call the simulator: their signatures verify and they get typed answers."""

import asyncio
import json
import logging
import time
from collections.abc import Iterator
from typing import Any

import pytest
from alibabacloud_dyplsapi20170525 import models as dyplsapi
from alibabacloud_dyplsapi20170525.client import Client as DyplsapiClient
from alibabacloud_dyvmsapi20170525 import models as dyvmsapi
from alibabacloud_dyvmsapi20170525.client import Client as DyvmsapiClient
from alibabacloud_tea_openapi.models import Config
from Tea.exceptions import TeaException

from precall.simulator import Account, Binding, Call, Scenario, Simulator

SCENARIO = Scenario(
    bindings=(
        Binding(subs_id="1", pool_key="P", number_x="17000000001", extension="12"),
        Binding(subs_id="2", pool_key="P", status=2, called_no="17100000002"),
        Binding(subs_id="3", pool_key="P", status=3),
        Binding(subs_id="4", pool_key="P", number_x="17000000004", status=4),
    ),
    calls=(Call(call_id="116014888060^102816313060", duration=31, after=0, ends=0),),
)
both_schemes = pytest.mark.parametrize("scheme", ["ACS3-HMAC-SHA256", "v2"])


@pytest.fixture(autouse=True)
def quiet_sdk() -> Iterator[None]:
    """The SDK hangs its own handlers on stderr when it is imported."""
    names = ("alibabacloud-tea", "darabonba-core", "credentials")
    before = {name: logging.getLogger(name).disabled for name in names}
    for name in names:
        logging.getLogger(name).disabled = True
    yield
    for name, disabled in before.items():
        logging.getLogger(name).disabled = disabled


def client_of(
    kind: Any,
    url: str,
    scheme: str,
    secret: str = SCENARIO.account.access_key_secret,
    token: str | None = None,
) -> Any:
    config = Config(
        access_key_id="demo",
        access_key_secret=secret or SCENARIO.account.access_key_secret,
        security_token=token,
        endpoint=url.removeprefix("http://"),
        protocol="HTTP",
    )
    client = kind(config)
    client._signature_algorithm = (
        None if scheme != "v2" else "v2"
    )  # the clients override the values of Config
    return client


async def status_of(client: Any, subs_id: str) -> Any:
    request = dyplsapi.QueryCallStatusRequest(subs_id=subs_id, pool_key="P", call_no="13800000001")
    return (await asyncio.to_thread(client.query_call_status, request)).body


@both_schemes
async def test_query_call_status_is_typed(scheme: str) -> None:
    async with Simulator(SCENARIO).running() as url:
        client = client_of(DyplsapiClient, url, scheme)
        answers = [(await status_of(client, subs_id)).secret_call_status_dto for subs_id in "1234"]
        assert [(answer.status, answer.called_no) for answer in answers] == [
            (1, "17000000001"),
            (2, "17100000002"),
            (3, None),
            (4, "17000000004"),
        ]
        assert answers[0].extension == "12"
        unknown = await status_of(client, "unknown")
        assert (unknown.code, unknown.secret_call_status_dto) == ("isv.SUBS_NOT_EXIST", None)
        assert len(unknown.request_id) == 36


@both_schemes
async def test_the_async_sdk_client_works(scheme: str) -> None:
    async with Simulator(SCENARIO).running() as url:
        client = client_of(DyplsapiClient, url, scheme)
        request = dyplsapi.QueryCallStatusRequest(subs_id="1", pool_key="P")
        body = (await client.query_call_status_async(request)).body
        assert (body.code, body.secret_call_status_dto.status) == ("OK", 1)


@both_schemes
async def test_query_call_detail_is_typed(scheme: str) -> None:
    async with Simulator(SCENARIO).running() as url:
        client = client_of(DyvmsapiClient, url, scheme)
        request = dyvmsapi.QueryCallDetailByCallIdRequest(
            call_id="116014888060^102816313060", prod_id=11000000300006, query_date=int(time.time() * 1000)
        )
        body = (await asyncio.to_thread(client.query_call_detail_by_call_id, request)).body
        assert body.code == "OK"
        assert json.loads(body.data)["duration"] == 31


@both_schemes
async def test_a_wrong_secret_is_refused(scheme: str) -> None:
    async with Simulator(SCENARIO).running() as url:
        client = client_of(DyplsapiClient, url, scheme, secret="wrong")
        with pytest.raises(TeaException) as caught:
            await status_of(client, "1")
        assert caught.value.code == "SignatureDoesNotMatch"


@both_schemes
async def test_a_security_token_is_sent_and_checked(scheme: str) -> None:
    scenario = Scenario(account=Account(security_token="CAIS+/=="), bindings=SCENARIO.bindings)
    async with Simulator(scenario).running() as url:
        good = await status_of(client_of(DyplsapiClient, url, scheme, token="CAIS+/=="), "1")
        assert good.secret_call_status_dto.status == 1
        for token, code in (("CAIS", "InvalidSecurityToken.Malformed"), (None, "MissingSecurityToken")):
            with pytest.raises(TeaException) as caught:
                await status_of(client_of(DyplsapiClient, url, scheme, token=token), "1")
            assert caught.value.code == code


async def test_throttling_reaches_the_client_as_throttling() -> None:
    scenario = Scenario(account=Account(rate=1, retry_after=300), bindings=SCENARIO.bindings)
    async with Simulator(scenario).running() as url:
        client = client_of(DyplsapiClient, url, "ACS3-HMAC-SHA256")
        await status_of(client, "1")
        with pytest.raises(TeaException) as caught:
            await status_of(client, "1")
        assert caught.value.code == "Throttling.User"
        assert caught.value.retry_after == 300
