"""The checks of `precall doctor`: a bounded probe of the provider, and of the store.

It makes some fifteen calls, none of which names a real binding unless one is given. It returns findings, which the
command prints.
"""

import asyncio
import os
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from email.utils import parsedate_to_datetime
from enum import StrEnum
from pathlib import Path
from urllib.parse import urlsplit

from precall.config.schema import Config
from precall.core.calls.call import query_date
from precall.core.calls.products import PRODUCTS
from precall.core.errors import SchemaOutdated, StoreError
from precall.core.model import Answer, Failure, InEffect, NonAnswer, Reply, Status
from precall.provider import (
    DETAIL,
    NUMBER,
    POOL_KEY_PLACE,
    QUESTIONS,
    STATUS,
    SUBS_ID_PLACE,
    SUBSCRIPTION,
    CallDetail,
    Provider,
    Proxy,
    RawReply,
    StatusSource,
    error_advice,
    proxy_for,
    read_detail,
    read_secret_no,
    read_status,
    read_subscription,
)
from precall.store import Store

PATIENCE = 3.0
"""Seconds for each step of a connection."""
UNKNOWN_SUBS_ID = "1"
UNKNOWN_POOL = "PRECALLDOCTOR"
UNKNOWN_X = "17000000000"
UNKNOWN_CALL = "0^0"
_PROBES = {
    STATUS: ({"PoolKey": UNKNOWN_POOL, "SubsId": UNKNOWN_SUBS_ID}, read_status),
    SUBSCRIPTION: (
        {"PoolKey": UNKNOWN_POOL, "SubsId": UNKNOWN_SUBS_ID, "PhoneNoX": UNKNOWN_X},
        read_subscription,
    ),
    NUMBER: ({"PoolKey": UNKNOWN_POOL, "SecretNo": UNKNOWN_X}, read_secret_no),
}
BURST = 10
SKEW_NOTICED = 30.0
SKEW_REFUSED = 900.0
"""The provider refuses signatures whose time is off by more than 15 minutes."""


class StepVerdict(StrEnum):
    """The result of one step."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class StepFinding:
    """What one step examined, what it found, and what to do about it.

    `recommend` and `error_page` are what the provider says of an error of its own.
    """

    what: str
    verdict: StepVerdict
    found: str
    fix: str = ""
    out_of_reach: bool = False
    recommend: str = ""
    error_page: str = ""

    def advised(self, action: str, reply: RawReply, read: object) -> "StepFinding":
        """This finding with what the provider advises on its error, unless all is well."""
        if self.verdict is StepVerdict.OK:
            return self
        advice = error_advice(action, reply, read)
        return replace(self, recommend=advice.recommend, error_page=advice.page)


async def examine(
    config: Config, provider: Provider, wall: Callable[[], float], subs_id: str, pool_key: str
) -> list[StepFinding]:
    """Return all findings in order. A `subs_id` is queried twice, if QueryCallStatus is the status source."""
    findings = await _status_endpoint(config, provider, wall)
    asks_status = config.provider.status_source == "call_status"
    if subs_id and asks_status and not any(finding.out_of_reach for finding in findings):
        findings.append(await _twice(provider, subs_id, pool_key))
    findings += await _detail_endpoint(config, provider, wall)
    return [*findings, *await _store(config)]


async def _status_endpoint(
    config: Config, provider: Provider, wall: Callable[[], float]
) -> list[StepFinding]:
    endpoint = config.provider.endpoint
    findings = [await reach("endpoint", endpoint, proxy_for(config.provider.proxy, endpoint))]
    if findings[0].verdict is StepVerdict.FAIL:
        return findings
    raw = {action: await provider.raw(action, params) for action, (params, _) in _PROBES.items()}
    read = {action: raw[action].read(reader) for action, (_, reader) in _PROBES.items()}
    asked = QUESTIONS[config.provider.status_source]
    findings.append(clock_finding(raw[asked[0]], wall()))
    for action in asked:
        known = action_findings(action, read[action])
        findings += [finding.advised(action, raw[action], read[action]) for finding in known]
    if all(_known(read[action]) for action in asked):
        findings.append(await _quota(config, provider, asked[0]))
    findings.append(source_finding(config.provider.status_source, read))
    return [finding for finding in findings if finding.found]


async def _detail_endpoint(
    config: Config, provider: Provider, wall: Callable[[], float]
) -> list[StepFinding]:
    """Examine the endpoint of call details. Routing does not need it, so every failure is a warning."""
    endpoint = config.provider.call_detail_endpoint
    findings = [await reach("call detail endpoint", endpoint, proxy_for(config.provider.proxy, endpoint))]
    if findings[0].verdict is StepVerdict.OK:
        day = query_date(wall())[0]
        product = PRODUCTS["voice-notification"]
        params = {"CallId": UNKNOWN_CALL, "ProdId": str(product), "QueryDate": str(day)}
        reply = await provider.raw(DETAIL, params)
        read = reply.read(read_detail)
        findings += [finding.advised(DETAIL, reply, read) for finding in action_findings(DETAIL, read)]
    return [
        replace(f, verdict=StepVerdict.WARN, out_of_reach=False) if f.verdict is StepVerdict.FAIL else f
        for f in findings
    ]


async def reach(what: str, endpoint: str, proxy: Proxy | None) -> StepFinding:
    """Examine name, port and TLS of an endpoint, or of its proxy."""
    if proxy is None:
        return await _connect(what, endpoint)
    found = await _connect(what, proxy.address)
    way = f"through the proxy of {proxy.named_by}"
    if found.verdict is StepVerdict.OK:
        return StepFinding(what, StepVerdict.OK, f"{way}, {urlsplit(proxy.address).netloc}, which answers")
    fix = 'see provider.proxy; "none" connects directly, and NO_PROXY excludes hosts'
    return StepFinding(what, StepVerdict.FAIL, f"{way}: {found.found}", fix, out_of_reach=True)


async def _connect(what: str, endpoint: str) -> StepFinding:
    parts = urlsplit(endpoint)
    host, tls = parts.hostname or "", parts.scheme == "https"
    port = parts.port or (443 if tls else 80)
    fix = f"check the address, this machine's network, and that {host}:{port} is not barred by a firewall"
    try:
        async with asyncio.timeout(PATIENCE):
            await asyncio.get_running_loop().getaddrinfo(host, port)
    except (OSError, TimeoutError):
        return StepFinding(
            what,
            StepVerdict.FAIL,
            f"{host} does not resolve",
            "correct the address, or this machine's DNS",
            out_of_reach=True,
        )
    try:
        async with asyncio.timeout(PATIENCE):
            _, writer = await asyncio.open_connection(
                host, port, ssl=ssl.create_default_context() if tls else None
            )
    except ssl.SSLError as error:
        reason = error.reason or type(error).__name__
        fix = "check this machine's clock and certificates, and for a proxy that intercepts TLS"
        return StepFinding(
            what, StepVerdict.FAIL, f"no TLS with {host}:{port} ({reason})", fix, out_of_reach=True
        )
    except (OSError, TimeoutError) as error:
        reason = os.strerror(error.errno) if error.errno else "no answer in time"
        return StepFinding(
            what, StepVerdict.FAIL, f"no connection to {host}:{port} ({reason})", fix, out_of_reach=True
        )
    writer.close()
    if not tls:
        fix = "use https:// unless this is a simulator or a test"
        return StepFinding(what, StepVerdict.OK, f"{host}:{port} answers, without TLS", fix)
    return StepFinding(what, StepVerdict.OK, f"{host}:{port} answers, TLS is good")


def clock_finding(reply: RawReply, now: float) -> StepFinding:
    """Compare this machine's clock with the Date of a reply. `found` is "" without one."""
    try:
        dated = parsedate_to_datetime(reply.headers["Date"]).timestamp()
    except (KeyError, ValueError):
        return StepFinding("clock", StepVerdict.OK, "")
    skew = now - dated
    found = f"{abs(skew):.0f} s {'ahead of' if skew > 0 else 'behind'} the provider"
    fix = "set this machine's clock (NTP): expiry is judged by it"
    if abs(skew) > SKEW_REFUSED:
        return StepFinding(
            "clock", StepVerdict.FAIL, found, f"{fix}; signatures over 15 minutes off are refused"
        )
    if abs(skew) > SKEW_NOTICED:
        return StepFinding("clock", StepVerdict.WARN, found, fix)
    return StepFinding(
        "clock", StepVerdict.OK, "within a few seconds of the provider" if abs(skew) < 3 else found
    )


def _known(read: Reply | CallDetail) -> bool:
    """Whether a reply is a business answer, which proves key, signature and action."""
    return not isinstance(read, NonAnswer) or read.failure in (Failure.GONE, Failure.REFUSED)


def source_finding(chosen: StatusSource, read: Mapping[str, Reply]) -> StepFinding:
    """Say which status sources work, whether the chosen one does, and whether the other one would be better.

    `read` are the replies of their actions to requests about unknown objects.
    """
    what, other = "status source", next(source for source in QUESTIONS if source != chosen)
    works = {source: all(_known(read[action]) for action in QUESTIONS[source]) for source in QUESTIONS}
    sources = []
    for source in (chosen, other):
        bad = [(action, reply) for action in QUESTIONS[source] if not _known(reply := read[action])]
        why = ", ".join(f"{action}: {reply.code}" for action, reply in bad if isinstance(reply, NonAnswer))
        sources.append(f"{source} does not work ({why})" if bad else f"{source} works")
    found = "; ".join(sources)
    if works[chosen]:
        better = works[other] and other == "call_status"
        fix = 'provider.status_source = "call_status" would also give temporary numbers and Status 3'
        return StepFinding(what, StepVerdict.OK, found, fix if better else "")
    if not works[other]:
        return StepFinding(what, StepVerdict.FAIL, found, "correct what is named above")
    fix = f'set provider.status_source = "{other}"'
    if other == "subscription_detail":
        fix += (
            ": it reports expiry and a doubtful X, but never a temporary number, and never to dial a real one"
        )
    return StepFinding(what, StepVerdict.FAIL, found, fix)


def action_findings(action: str, read: Reply | CallDetail) -> list[StepFinding]:
    """Say what a reply about an unknown object proves: any business answer proves key, signature and action."""
    if not isinstance(read, NonAnswer) or read.failure in (Failure.GONE, Failure.REFUSED):
        code = read.code if isinstance(read, NonAnswer) else "OK"
        if isinstance(read, InEffect):
            return [StepFinding(action, StepVerdict.OK, "signature accepted, action known")]
        return [
            StepFinding(
                action, StepVerdict.OK, f"signature accepted, action known (an unknown id gives {code})"
            )
        ]
    named = f"{read.code}, RequestId {read.request_id}" if read.request_id else read.code
    match read.failure:
        case Failure.THROTTLED:
            fix = "signature and action could not be checked; lower provider.rate and try again"
            return [StepFinding(action, StepVerdict.WARN, f"throttled ({named})", fix)]
        case Failure.STALE:
            return [
                StepFinding(action, StepVerdict.WARN, f"a nonce was taken for used ({named})", "try again")
            ]
        case Failure.TRANSIENT:
            fix = "try again; if it stays, raise provider.timeout or ask the provider"
            return [StepFinding(action, StepVerdict.FAIL, f"{read.detail} ({named})", fix, out_of_reach=True)]
        case _:
            found, _, rest = read.detail.partition(";")[0].partition(": ")
            return [
                StepFinding(
                    action, StepVerdict.FAIL, f"{found} ({named})", rest or "see the provider's console"
                )
            ]


async def _quota(config: Config, provider: Provider, action: str) -> StepFinding:
    """A second's worth of the configured rate, ten calls at most, at once."""
    rate = config.provider.rate
    count = max(1, min(BURST, int(rate)))
    params, reader = _PROBES[action]
    replies = await asyncio.gather(*(provider.raw(action, params) for _ in range(count)))
    read = [reply.read(reader) for reply in replies]
    refused = [reply for reply in read if isinstance(reply, NonAnswer) and reply.failure is Failure.THROTTLED]
    slowest = max(reply.seconds for reply in replies)
    if refused:
        waits = [reply.retry_after for reply in refused if reply.retry_after]
        waiting = f", with {max(waits):g} s to wait" if waits else ""
        fix = f"set provider.rate (now {rate:g}) to what the account may, or ask the provider for more"
        return StepFinding(
            "quota", StepVerdict.WARN, f"{len(refused)} of {count} calls at once throttled{waiting}", fix
        )
    found = f"{count} calls at once, none throttled, slowest {slowest * 1000:.0f} ms"
    if rate > count:
        return StepFinding(
            "quota", StepVerdict.OK, found, f"provider.rate = {rate:g} was not tried out in full"
        )
    return StepFinding("quota", StepVerdict.OK, found)


async def _twice(provider: Provider, subs_id: str, pool_key: str) -> StepFinding:
    """Whether the platform allocates another temporary number each time it is asked."""
    params = {"PoolKey": pool_key, "SubsId": subs_id}
    raw = [await provider.raw(STATUS, params) for _ in range(2)]
    answers: list[Answer] = []
    for reply in raw:
        read = reply.read(read_status)
        if isinstance(read, NonAnswer):
            fix = f"name a binding of this pool and account: {POOL_KEY_PLACE}; {SUBS_ID_PLACE}"
            if read.failure not in (Failure.GONE, Failure.REFUSED):
                fix = action_findings(STATUS, read)[0].fix
            refused = StepFinding("asked twice", StepVerdict.WARN, f"no answer ({read.code})", fix)
            return refused.advised(STATUS, reply, read)
        answers.append(read)
    first, second = answers
    if first.status is not Status.TEMPORARY or second.status is not Status.TEMPORARY:
        found = f"Status {int(first.status)}, then {int(second.status)}"
        return StepFinding(
            "asked twice", StepVerdict.OK, found, "name a binding with Status 2 to see what asking does to it"
        )
    if first.called_no == second.called_no:
        return StepFinding(
            "asked twice", StepVerdict.OK, "Status 2 with the same temporary number: asking changes nothing"
        )
    return StepFinding(
        "asked twice",
        StepVerdict.WARN,
        "Status 2 with another temporary number each time: asking allocates",
        "keep freshness.abnormal_min_interval and policy.temporary_ttl high enough",
    )


async def _store(config: Config) -> list[StepFinding]:
    """Reachable, schema, writable. A database that does not exist yet is not made."""
    url = config.store.database
    if (file := _yet_to_be_made(url)) is not None:
        fix = "`precall run` or `precall migrate` makes it"
        return [StepFinding("store", StepVerdict.OK, f"{file} does not exist yet", fix)]
    try:
        store = await Store.open(
            url, timeout=config.store.timeout, key_file=config.store.key_file, auto_migrate=False
        )
    except SchemaOutdated as error:
        if config.store.migrates:
            return [
                StepFinding(
                    "store", StepVerdict.WARN, str(error).partition(":")[0], "`precall run` will migrate it"
                )
            ]
        return [_trouble(error)]
    except StoreError as error:
        return [_trouble(error)]
    try:
        marks = await store.marks()
        await store.mark({"doctor": str(int(marks.get("doctor", "0")) + 1)})
    except StoreError as error:
        return [_trouble(error)]
    finally:
        await store.close()
    return [StepFinding("store", StepVerdict.OK, f"{store.name}: schema current, writable")]


def _yet_to_be_made(url: str) -> Path | None:
    file = Path(url.removeprefix("sqlite:///"))
    return file if url.startswith("sqlite:///") and file.parent.is_dir() and not file.exists() else None


def _trouble(error: StoreError) -> StepFinding:
    found, _, fix = str(error).partition(": ")
    return StepFinding("store", StepVerdict.FAIL, found, fix)
