"""Asking the provider without a daemon, and showing its reply as it came.

Terminal and numbers belong to the operator. Only keys and tokens that an error may echo are left out.
"""

import time
import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import asdict

import typer

from precall.cli import output
from precall.config.schema import Config
from precall.core.errors import ConfigError
from precall.core.model import Answer, Failure, NonAnswer
from precall.provider import (
    CallDetail,
    ErrorAdvice,
    Provider,
    RawReply,
    TransportTrouble,
    configured_credentials,
)
from precall.telemetry import logging as log
from precall.telemetry.redaction import without_secrets

PANEL = "The provider, without a daemon"
UNREACHABLE = (Failure.TRANSIENT, Failure.THROTTLED, Failure.STALE, Failure.ACCOUNT)
"""Failures of the provider, the line or the account, as opposed to those of one binding or call."""
_SHOWN_HEADERS = ("Date", "Content-Type", "x-acs-retry-after", "x-acs-request-id")


@asynccontextmanager
async def connected(config: Config) -> AsyncIterator[Provider]:
    """Yield a provider by this configuration. Nothing is logged: the command shows what it finds."""
    log.configure("critical")
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


def explained(read: NonAnswer) -> str:
    """Return what a non-answer means."""
    return f"no answer ({read.failure}, {read.code}): {read.detail or 'no explanation'}"


def effect(read: NonAnswer) -> str:
    """Return what a daemon does after a non-answer about a binding."""
    if read.failure is Failure.ACCOUNT:
        return "checks stop except for one probe every 30 s, and routes are kept"
    return "a route would stay as it is"


def show(
    reply: RawReply,
    read: Answer | CallDetail | NonAnswer,
    facts: Mapping[str, object],
    advice: ErrorAdvice,
    *,
    as_json: bool,
) -> None:
    """Show a reply, what was read from it, and `facts`, which say what it means."""
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
                "recommend": advice.recommend,
                "error_page": advice.page,
                **facts,
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
    shown: dict[str, object] = {"request id": read.request_id}
    match read:
        case Answer():
            shown |= {"status": int(read.status), "number": read.called_no, "extension": read.extension}
        case CallDetail(data=data) if data is not None:
            shown |= dict(data)
    output.facts(shown | dict(facts) | _advised(advice))


def _advised(advice: ErrorAdvice) -> dict[str, object]:
    given = {"the provider recommends": advice.recommend, "the provider's errors": advice.page}
    return {name: value for name, value in given.items() if value}


def leave(read: Answer | CallDetail | NonAnswer) -> None:
    """Exit for a non-answer: 1 if it is about this binding or call, 4 if it is the provider or the account."""
    if not isinstance(read, NonAnswer):
        return
    if read.code == TransportTrouble.NO_CREDENTIAL:
        raise ConfigError([f"provider.access_key_id: {read.detail}"])
    raise typer.Exit(4 if read.failure in UNREACHABLE else 1)
