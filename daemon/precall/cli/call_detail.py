"""The command `call`: asks the provider how a call ended, without a daemon."""

import asyncio
import re
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Annotated

import typer

from precall.cli import output
from precall.cli.direct import UNREACHABLE, connected, explained, leave, show
from precall.cli.options import ConfigFile, JsonObject
from precall.config.schema import Config, load
from precall.core.calls.call import SHANGHAI, filed_elsewhere, query_date
from precall.core.calls.causes import NO_DETAIL, meaning
from precall.core.calls.products import product_name, product_number
from precall.core.model import NonAnswer
from precall.provider import DETAIL, CallDetail, RawReply, error_advice, read_detail

LONGEST_CALL = 6 * 3600.0
"""Seconds after which a call is taken to have ended more than 5 minutes ago."""
_EPOCH = re.compile(r"[0-9]+")
_BEIJING = timezone(timedelta(seconds=SHANGHAI))


def _product(text: str) -> int:
    try:
        return product_number(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


def call(
    call_id: Annotated[str, typer.Argument(metavar="CALL_ID", help="The provider's id of the call.")],
    *,
    prod_id: Annotated[
        str,
        typer.Option(
            metavar="PRODUCT",
            help="The product that placed the call: its number, such as 11000000300006, or voice-notification,"
            " verification-code, ivr, click-to-dial, sip or smart-outbound.",
        ),
    ],
    called_at: Annotated[
        str, typer.Option(metavar="TIME", help="RFC 3339 with a zone, or epoch milliseconds.")
    ],
    find: Annotated[
        bool,
        typer.Option("--find", help="If there is nothing, try the other products and the days beside it."),
    ] = False,
    config: ConfigFile = None,
    as_json: JsonObject = False,
) -> None:
    """Ask the provider how a call ended (QueryCallDetailByCallId).

    Shows the reply as it came, and what it means. Calls of the voice robot are not covered by this API, nor are calls
    that a handset placed. Exit 1: the provider knows nothing about the call.
    """
    product, at = _product(prod_id), placed_at(called_at)
    loaded = load(config)
    asked = asyncio.run(_asked(loaded, call_id, product, at, find=find))
    read = asked.read
    facts: dict[str, object] = {"prod_id": asked.product, "product": product_name(asked.product)}
    facts |= {"query_date": asked.day, "calls": asked.calls}
    if isinstance(read, NonAnswer):
        facts["meaning"] = explained(read)
    elif read.data is None:
        facts["meaning"] = nothing(time.time() - at) + (
            f"; {asked.calls} calls for products and days found nothing" if find else "; --find looks further"
        )
    else:
        facts["meaning"] = _ended(read)
    show(asked.reply, read, facts, error_advice(DETAIL, asked.reply, read), as_json=as_json)
    leave(read)
    if isinstance(read, CallDetail) and read.data is None:
        raise typer.Exit(1)


def nothing(since: float) -> str:
    """Return why there may be no detail of a call that was placed `since` seconds ago."""
    if since > LONGEST_CALL:
        return f"nothing: {NO_DETAIL}"
    return f"nothing yet: the call ended within the last 5 minutes or is not over, or {NO_DETAIL}"


def _ended(read: CallDetail) -> str:
    connected_ = (
        "connected" if read.duration else "not connected" if read.duration == 0 else "duration unknown"
    )
    return f"state {read.state or 'unknown'}: {meaning(read.state)}; {connected_}"


@dataclass(frozen=True, slots=True)
class AskedDetail:
    """The last query about a call, its reply, and the number of provider `calls` made so far.

    `day` is a QueryDate in milliseconds.
    """

    product: int
    day: int
    reply: RawReply
    read: CallDetail | NonAnswer
    calls: int

    @property
    def empty(self) -> bool:
        """Whether the reply says nothing about the call."""
        return isinstance(self.read, CallDetail) and self.read.data is None

    @property
    def ends_the_search(self) -> bool:
        """Whether to stop: there is a detail, or the provider is out of reach."""
        if isinstance(self.read, NonAnswer):
            return self.read.failure in UNREACHABLE
        return self.read.data is not None


Ask = Callable[[int, int], Awaitable[AskedDetail]]


async def _asked(config: Config, call_id: str, product: int, at: float, *, find: bool) -> AskedDetail:
    calls = 0
    async with connected(config) as provider:

        async def ask(product: int, day: int) -> AskedDetail:
            nonlocal calls
            calls += 1
            params = {"CallId": call_id, "ProdId": str(product), "QueryDate": str(day)}
            reply = await provider.raw(DETAIL, params)
            return AskedDetail(product, day, reply, reply.read(read_detail), calls)

        likeliest, *others = query_date(at)
        asked = await ask(product, likeliest)
        for day in others:
            if asked.empty:
                asked = await ask(product, day)
        if not (find and asked.empty):
            return asked
        return await _search(ask, filed_elsewhere(product, at, time.time()), config) or replace(
            asked, calls=calls
        )


async def _search(ask: Ask, places: Iterable[tuple[int, int]], config: Config) -> AskedDetail | None:
    """Query these (product, day) pairs, evenly spaced within the budget, until there is a detail or a failure."""
    places, per_minute = list(places), config.provider.call_detail_rate_per_minute
    output.say(
        f"nothing in the place given; looking into {len(places)} more, one call each,"
        f" at {per_minute:g} a minute (provider.call_detail_rate_per_minute)"
    )
    asked: AskedDetail | None = None
    for count, (product, day) in enumerate(places, 1):
        await asyncio.sleep(60 / per_minute)
        asked = await ask(product, day)
        if asked.ends_the_search:
            what = (
                "stopped by a failure"
                if isinstance(asked.read, NonAnswer)
                else f"found under {_place(asked)}"
            )
            output.say(f"{what}, after {count} more calls")
            return asked
    output.say(f"not found, after {len(places)} more calls")
    return None


def _place(asked: AskedDetail) -> str:
    day = datetime.fromtimestamp(asked.day / 1000, UTC).astimezone(_BEIJING)
    return f"{product_name(asked.product) or 'product'} ({asked.product}), {day:%Y-%m-%d} in Beijing"


def placed_at(text: str) -> float:
    """Return when a call was placed, in epoch seconds. Usage error for an ambiguous time."""
    if _EPOCH.fullmatch(text):
        if len(text) == 13:
            return int(text) / 1000
        if len(text) == 10:
            raise typer.BadParameter(
                f"{text} is epoch seconds. The provider's QueryDate is in milliseconds (the example on its product"
                " page is in seconds, and asks for a day in 1970: answered OK, with nothing in it)."
                f" Write {text}000, or RFC 3339"
            )
        raise typer.BadParameter(f"{text} is not a time: epoch milliseconds have 13 digits")
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(f"{text} is not a time: write 2026-01-02T03:04:05+08:00") from None
    if at.tzinfo is None:
        raise typer.BadParameter(
            f"{text} has no zone: write {text}+08:00 for Beijing time, or {text}Z for UTC"
        )
    return at.timestamp()
