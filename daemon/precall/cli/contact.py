"""`precall doctor --contact`: what precall assumes about the provider, examined against a real account."""

import asyncio
import secrets
import time
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from rich.console import Console

from precall.api.schemas.bindings import ListedBinding
from precall.cli import output
from precall.cli.binding_rows import BindingRow, BindingRows, RowError, text_of
from precall.cli.doctor import StepVerdict, reach
from precall.cli.files import writing_text
from precall.config.schema import Config, ProviderConfig
from precall.contact import (
    LABEL,
    AssumptionFinding,
    Contact,
    ContactClock,
    ContactRecord,
    ContactVerdict,
    Limits,
    StandIns,
    SubjectKind,
    Subjects,
    Transcript,
    chosen,
    findings,
    kind_of,
)
from precall.core.errors import ConfigError, OutOfReach, Refusal
from precall.core.model import Binding
from precall.provider import Credentials, Provider, configured_credentials, proxy_for
from precall.provider.assumptions import ASSUMPTIONS
from precall.provider.sign import Format, Scheme

SHOWN_MISTAKES = 5
INTERRUPTED = 130
_OUT_OF_REACH = 4
_STYLES = {
    ContactVerdict.CONFIRMED: StepVerdict.OK,
    ContactVerdict.REFUTED: StepVerdict.FAIL,
    ContactVerdict.NOT_SEEN: StepVerdict.WARN,
}


@dataclass(frozen=True, slots=True)
class ContactOrder:
    """What the command was given. `stop_signal` returns an event that ends the contact early."""

    bindings: Path
    calls: int
    transcript: Path | None
    stop_signal: Callable[[], asyncio.Event]


@dataclass(frozen=True, slots=True)
class ContactResult:
    """What a contact has found."""

    record: ContactRecord
    found: list[AssumptionFinding]
    limit: int

    @property
    def exit_code(self) -> int:
        """130 if it was interrupted, 4 if the provider never replied, 1 if an assumption is refuted, else 0."""
        if self.record.interrupted:
            return INTERRUPTED
        if not any(call.is_business or call.is_unknown_action for call in self.record.calls):
            return _OUT_OF_REACH
        return int(any(finding.verdict is ContactVerdict.REFUTED for finding in self.found))


def subjects_of(file: Path, now: float) -> Subjects:
    """Return the bindings of a file that a contact queries. Raises ConfigError for unusable lines."""
    mistakes: list[str] = []
    try:
        with file.open("rb") as raw:
            found = chosen(_bindings(BindingRows(text_of(raw, "it")), now, mistakes))
    except OSError as error:
        raise ConfigError([f"{file} cannot be read: {error.strerror}"]) from None
    except Refusal as error:
        raise ConfigError([f"{file}: {error}"]) from None
    if mistakes:
        more = len(mistakes) - SHOWN_MISTAKES
        rest = [f"{more} more like these"] if more > 0 else []
        raise ConfigError([f"{file}: {one}" for one in (*mistakes[:SHOWN_MISTAKES], *rest)])
    if not found.given:
        raise ConfigError([f"{file}: has no binding; it should have a live, an expired and an unbound one"])
    return found


def _bindings(rows: BindingRows, now: float, mistakes: list[str]) -> Iterator[tuple[Binding, SubjectKind]]:
    for row in rows:
        match row:
            case RowError():
                mistakes.append(str(row))
            case BindingRow(number=number, binding=given):
                listed = ListedBinding.model_validate(given)
                binding = listed.binding(listed.subs_id)
                try:
                    yield binding, kind_of(binding, now)
                except ValueError as error:
                    mistakes.append(f"line {number}, label.{LABEL}: {error}")


async def examine(config: Config, order: ContactOrder) -> ContactResult:
    """Make the calls, write the transcript, and return the findings.

    Raises OutOfReach if the provider cannot be connected to, ConfigError for an unusable file or without a credential,
    and OutputError if the transcript cannot be written.
    """
    subjects = subjects_of(order.bindings, time.time())
    settings = config.provider
    reached = await reach("endpoint", settings.endpoint, proxy_for(settings.proxy, settings.endpoint))
    if reached.verdict is StepVerdict.FAIL:
        raise OutOfReach(f"{reached.found}; {reached.fix}")
    limits = Limits(order.calls, settings.rate, order.stop_signal())
    clock = ContactClock(time.time, time.monotonic)
    way = (settings.signature, settings.format)
    async with AsyncExitStack() as stack:
        credentials = configured_credentials(settings)
        stack.push_async_callback(credentials.stop)
        await credentials.start()
        if (credential := credentials.current()) is None:
            raise ConfigError(["provider.access_key_id: no credential, and the default chain has none"])
        providers = await stack.enter_async_context(_providers(settings, credentials))
        progress = stack.enter_context(_progress(order.calls))
        transcript = None
        if order.transcript is not None:
            out = stack.enter_context(writing_text(order.transcript))
            transcript = Transcript(out, StandIns(secrets.randbelow), credential)
            transcript.begin(subjects.given, way, clock.wall())

        def note(call: Any) -> None:
            progress(call.probe)
            if transcript is not None:
                transcript.note(call)

        record = await Contact(providers, way, subjects, limits, clock, note).run()
    found = findings(record, timeout=settings.timeout, rate=settings.rate)
    return ContactResult(record, found, order.calls)


@asynccontextmanager
async def _providers(
    settings: ProviderConfig, credentials: Credentials
) -> AsyncIterator[dict[tuple[Scheme, Format], Provider]]:
    """Yield clients for the configured signature and format, and with either of them changed."""
    async with AsyncExitStack() as stack:
        made: dict[tuple[Scheme, Format], Provider] = {}
        for signature in get_args(Scheme):
            for form in get_args(Format):
                if signature != settings.signature and form != settings.format:
                    continue
                provider = Provider(
                    settings.model_copy(update={"signature": signature, "format": form}),
                    credentials,
                    wall=time.time,
                    monotonic=time.monotonic,
                    nonce=lambda: uuid.uuid4().hex,
                )
                stack.push_async_callback(provider.close)
                await provider.start()
                made[signature, form] = provider
        yield made


@contextmanager
def _progress(limit: int) -> Iterator[Callable[[str], None]]:
    """Yield a function to call after each call with its probe. On a terminal it shows how far the contact is."""
    done = 0
    with Console(stderr=True).status(f"0 of {limit} calls") as status:

        def moved(probe: str) -> None:
            nonlocal done
            done += 1
            status.update(f"{done} of {limit} calls: {probe.replace('_', ' ')}")

        yield moved


def show(result: ContactResult, transcript: Path | None, *, as_json: bool) -> None:
    """Print the findings, and what to do about those that are refuted."""
    counts = Counter(finding.verdict for finding in result.found)
    if as_json:
        output.data(
            {
                "calls": len(result.record.calls),
                "limit": result.limit,
                "interrupted": result.record.interrupted,
                "counts": {verdict: counts[verdict] for verdict in ContactVerdict},
                "findings": [_described(finding) for finding in result.found],
            }
        )
        return
    output.rows(
        ("", "verdict", "name", "found"),
        (
            (_STYLES[finding.verdict], finding.verdict, finding.assumption.name, finding.found)
            for finding in result.found
        ),
        wraps=True,
    )
    for finding in result.found:
        if finding.hint:
            output.paragraph(f"{finding.assumption.name}: {finding.hint}")
            output.paragraph(f"  assumed: {finding.assumption.text}", "    ")
    summary = ", ".join(f"{counts[verdict]} {verdict}" for verdict in ContactVerdict)
    unseen = sum(not assumption.probe for assumption in ASSUMPTIONS)
    said = f"{summary}; {len(result.record.calls)} of {result.limit} calls; no contact can see {unseen} more"
    output.paragraph(said + (f"; transcript {transcript}" if transcript else ""))


def _described(finding: AssumptionFinding) -> dict[str, str]:
    assumption = finding.assumption
    return {
        "name": assumption.name,
        "assumption": assumption.text,
        "verdict": finding.verdict,
        "found": finding.found,
        "hint": finding.hint,
        "evidence": assumption.evidence,
        "source": assumption.source,
    }
