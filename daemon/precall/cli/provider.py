"""The provider asked directly, without a daemon: check, call, doctor.

Replies are shown as they come, since terminal and numbers belong to the operator. Only keys and tokens that an error
may echo are left out.
"""

import asyncio
import re
import time
import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from precall.cli import output
from precall.cli.options import ConfigFile, JsonObject, SubsId
from precall.config.schema import Config, load
from precall.core.calls.call import query_date
from precall.core.calls.causes import meaning as cause_meaning
from precall.core.errors import ConfigError
from precall.core.model import Answer, Failure, NonAnswer, Status
from precall.provider import (
    DETAIL,
    STATUS,
    CallDetail,
    Provider,
    RawReply,
    TransportTrouble,
    configured_credentials,
    read_detail,
    read_status,
)
from precall.telemetry import logging as log
from precall.telemetry.redaction import without_secrets

PANEL = "The provider, without a daemon"
app = typer.Typer()

CONTACT_CALLS = 30

MEANING = {
    Status.NORMAL: "the binding works: dial X",
    Status.TEMPORARY: "X fails: dial the temporary number of this reply",
    Status.UNREACHABLE: "X fails and no temporary number is free: dial the real callee, if policy allows",
    Status.EXPIRED: "the binding has expired: never dial, whatever the number",
}
_SHOWN_HEADERS = ("Date", "Content-Type", "x-acs-retry-after", "x-acs-request-id")
_UNREACHABLE = (Failure.TRANSIENT, Failure.THROTTLED, Failure.STALE, Failure.ACCOUNT)
_EPOCH = re.compile(r"[0-9]+")


@app.command(rich_help_panel=PANEL)
def check(
    subs_id: SubsId,
    *,
    pool_key: Annotated[str, typer.Option(metavar="POOL", help="The number pool of the binding.")],
    config: ConfigFile = None,
    as_json: JsonObject = False,
) -> None:
    """Ask the provider about a binding (QueryCallStatus).

    Shows the reply as it came, and what it means. Exit 1: no answer for this binding.
    """
    loaded = load(config)
    reply = asyncio.run(_ask(loaded, STATUS, {"PoolKey": pool_key, "SubsId": subs_id}))
    read = reply.read(read_status)
    meaning = MEANING[read.status] if isinstance(read, Answer) else _explained(read)
    _show(reply, read, meaning, as_json=as_json)
    _leave(read)


@app.command(rich_help_panel=PANEL)
def call(
    call_id: Annotated[str, typer.Argument(metavar="CALL_ID", help="The provider's id of the call.")],
    *,
    prod_id: Annotated[int, typer.Option(help="The product that placed the call, such as 11000000300006.")],
    called_at: Annotated[
        str, typer.Option(metavar="TIME", help="RFC 3339 with a zone, or epoch milliseconds.")
    ],
    config: ConfigFile = None,
    as_json: JsonObject = False,
) -> None:
    """Ask the provider how a call ended (QueryCallDetailByCallId).

    Shows the reply as it came, and what it means. Exit 1: the provider knows nothing about the call.
    """
    days = query_date(placed_at(called_at))
    loaded = load(config)

    async def ask() -> RawReply:
        for day in days:
            params = {"CallId": call_id, "ProdId": str(prod_id), "QueryDate": str(day)}
            reply = await _ask(loaded, DETAIL, params)
            detail = reply.read(read_detail)
            if isinstance(detail, NonAnswer) or detail.data is not None:
                break
        return reply

    reply = asyncio.run(ask())
    read = reply.read(read_detail)
    if isinstance(read, NonAnswer):
        meaning = _explained(read)
    elif read.data is None:
        meaning = "nothing yet: the call ended within the last 5 minutes, or id, product, day or account do not match"
    else:
        connected = (
            "connected" if read.duration else "not connected" if read.duration == 0 else "duration unknown"
        )
        meaning = f"state {read.state or 'unknown'}: {cause_meaning(read.state)}; {connected}"
    _show(reply, read, meaning, as_json=as_json)
    _leave(read)
    if isinstance(read, CallDetail) and read.data is None:
        raise typer.Exit(1)


@app.command(rich_help_panel=PANEL)
def doctor(
    *,
    config: ConfigFile = None,
    subs_id: Annotated[
        str,
        typer.Option(metavar="SUBS_ID", help="Ask about this binding twice, to see what a Status 2 does."),
    ] = "",
    pool_key: Annotated[str, typer.Option(metavar="POOL", help="The number pool of --subs-id.")] = "",
    contact: Annotated[
        Path | None,
        typer.Option(
            metavar="BINDINGS", help="Examine what precall assumes about the provider, with these bindings."
        ),
    ] = None,
    calls: Annotated[
        int | None,
        typer.Option(min=1, max=1000, help="The most calls that --contact may make. Default: 30."),
    ] = None,
    transcript: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Write the calls of --contact here, masked, for `simulate --like`."
        ),
    ] = None,
    as_json: JsonObject = False,
) -> None:
    """Check the provider and the database, and say what to fix.

    Makes only a few calls. With --contact: confirms or refutes each assumption about the provider. Exit 1: something
    fails, or is refuted. Exit 4: something is out of reach.
    """
    if bool(subs_id) != bool(pool_key):
        raise typer.BadParameter("--subs-id and --pool-key go together")
    if contact is not None:
        if subs_id:
            raise typer.BadParameter("give --contact or --subs-id, not both")
        _contact(load(config), contact, calls or CONTACT_CALLS, transcript, as_json=as_json)
    if transcript is not None or calls is not None:
        raise typer.BadParameter("--calls and --transcript need --contact")
    from precall.cli.doctor import StepVerdict, examine  # noqa: PLC0415 - see serving

    loaded = load(config)
    log.configure("critical")

    async def probe() -> Any:
        async with _provider(loaded) as provider:
            return await examine(loaded, provider, time.time, subs_id, pool_key)

    findings = asyncio.run(probe())
    if as_json:
        output.data([asdict(finding) for finding in findings])
    else:
        output.rows(("", "what", "found"), ((f.verdict, f.what, f.found) for f in findings))
        for finding in findings:
            if finding.fix:
                typer.echo(f"{finding.what}: {finding.fix}")
    failed = [finding for finding in findings if finding.verdict is StepVerdict.FAIL]
    if failed:
        raise typer.Exit(4 if any(finding.out_of_reach for finding in failed) else 1)


def _contact(
    config: Config, bindings: Path, calls: int, transcript: Path | None, *, as_json: bool
) -> NoReturn:
    """Examine what precall assumes about the provider, and exit."""
    from precall.cli import contact  # noqa: PLC0415 - see serving
    from precall.cli.daemon import stop_signal  # noqa: PLC0415

    log.configure("critical")
    order = contact.ContactOrder(bindings, calls, transcript, stop_signal)
    result = asyncio.run(contact.examine(config, order))
    contact.show(result, transcript, as_json=as_json)
    raise typer.Exit(result.exit_code)


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


@asynccontextmanager
async def _provider(config: Config) -> AsyncIterator[Provider]:
    keys = configured_credentials(config.provider)
    provider = Provider(
        config.provider,
        keys,
        wall=time.time,
        monotonic=time.monotonic,
        nonce=lambda: uuid.uuid4().hex,
    )
    await keys.start()
    try:
        await provider.start()
        yield provider
    finally:
        await provider.close()
        await keys.stop()


async def _ask(config: Config, action: str, params: Mapping[str, str]) -> RawReply:
    async with _provider(config) as provider:
        return await provider.raw(action, params)


def _explained(read: NonAnswer) -> str:
    return f"no answer ({read.failure}, {read.code}): {read.detail or 'no explanation'}; a route would stay as it is"


def _show(reply: RawReply, read: Answer | CallDetail | NonAnswer, meaning: str, *, as_json: bool) -> None:
    headers = {name: reply.headers[name] for name in _SHOWN_HEADERS if name in reply.headers}
    if as_json:
        output.data(
            {
                "request": reply.request,
                "http_status": reply.http_status,
                "headers": headers,
                "body": without_secrets(reply.text),
                "seconds": round(reply.seconds, 6),
                "kind": "non_answer" if isinstance(read, NonAnswer) else "answer",
                "read": asdict(read),
                "meaning": meaning,
            }
        )
        return
    typer.echo(reply.request)
    typer.echo("")
    if reply.http_status:
        typer.echo(f"HTTP {reply.http_status} in {reply.seconds * 1000:.0f} ms")
        for name, value in headers.items():
            typer.echo(f"{name}: {value}")
        typer.echo(f"\n{without_secrets(reply.text)}\n")
    facts: dict[str, object] = {"request id": read.request_id}
    match read:
        case Answer():
            facts |= {"status": int(read.status), "number": read.called_no, "extension": read.extension}
        case CallDetail(data=data) if data is not None:
            facts |= dict(data)
    output.facts(facts | {"meaning": meaning})


def _leave(read: Answer | CallDetail | NonAnswer) -> None:
    """Exit for a non-answer: 1 if it is about this binding or call, 4 if it is the provider or the account."""
    if not isinstance(read, NonAnswer):
        return
    if read.code == TransportTrouble.NO_CREDENTIAL:
        raise ConfigError([f"provider.access_key_id: {read.detail.partition(';')[0]}"])
    raise typer.Exit(4 if read.failure in _UNREACHABLE else 1)
