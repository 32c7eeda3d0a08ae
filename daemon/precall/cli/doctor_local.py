"""The checks of `precall doctor` on this machine: ports, TLS, tokens, keys, disk, source, and daemons that run."""

import errno
import os
import shutil
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from precall.api.access.tls import validity
from precall.cli.client import DaemonClient
from precall.cli.config_check import tls_mistakes
from precall.cli.doctor import SKEW_NOTICED, StepFinding, StepVerdict
from precall.cli.output import counted, date_time
from precall.config import addresses
from precall.config.schema import ApiConfig, Config, SourceConfig, StoreConfig
from precall.core.errors import ConfigError, PrecallError, StoreError
from precall.core.model import Binding
from precall.core.planning.promise import longest_age
from precall.core.status.texts import duration
from precall.core.sync.columns import BadRow
from precall.engine.source_query import SourceQuery
from precall.store import Cipher, MemberBook, Store
from precall.store.connection import DatabaseAddress

PATIENCE = 5.0
"""Seconds for the answer of a daemon."""
SILENT = 15.0
"""Seconds without a sign of life after which a daemon counts as ended. A living one gives one every three."""
SOON = 14 * 86_400.0
"""Seconds before its end from which a certificate is a warning."""
DISK_LOW, DISK_FULL = 1 << 30, 100 << 20
"""Bytes."""
OK, WARN, FAIL = StepVerdict.OK, StepVerdict.WARN, StepVerdict.FAIL


@dataclass(frozen=True, slots=True)
class ExaminedPort:
    """What was found at an address of the API or the console. `ready` is the `/readyz` of the precall that holds it."""

    finding: StepFinding
    ready: dict[str, Any] | None = None


async def examine_machine(config: Config, wall: Callable[[], float]) -> AsyncIterator[StepFinding]:
    """Yield the findings, in the order in which they are shown. `wall` gives Unix seconds."""
    ready, now = None, wall()
    for finding in await examine_daemons(config.store, wall):
        yield finding
    for key, address in config.api.listeners:
        examined = await examine_port(address, f"api.{key}", tls=bool(config.api.tls_cert_file))
        yield examined.finding
        ready = ready or examined.ready
    bindings = await stored_bindings(config.store, now) if ready is None else int(ready["bindings"])
    if bindings is not None:
        yield freshness_finding(config, bindings)
    if config.api.tls_cert_file:
        yield tls_finding(config.api, now)
    yield tokens_finding(config.api)
    yield keys_finding(config.store.key_file)
    if (disk := disk_finding(config.store.database)) is not None:
        yield disk
    if config.source.configured:
        yield await examine_source(config.source, now)


async def examine_daemons(config: StoreConfig, wall: Callable[[], float]) -> list[StepFinding]:
    """Say which daemons run on the database, and how its clock differs from ours. Nothing without their table."""
    try:
        address = DatabaseAddress(config.database)
    except StoreError:
        return []  # said of the store already
    if _is_missing(address):
        return []
    book = MemberBook(config.database, config.timeout)
    try:
        book.open()
        found, before, clock, after = await book.read(), wall(), await book.clock(), wall()
    except (PrecallError, RuntimeError):
        return []
    finally:
        await book.close()
    alive = [one for one in found if clock - one.seen_at < SILENT]
    findings = [
        StepFinding("daemon", OK, f"{one.name} is {one.role}, precall {one.version}, {one.address}")
        for one in alive
    ]
    if not alive:
        findings = [StepFinding("daemon", OK, "none is running on this database")]
    if not address.is_sqlite:
        findings.append(database_clock_finding((before + after) / 2 - clock))
    return findings


async def stored_bindings(config: StoreConfig, now: float) -> int | None:
    """Return how many bindings of the database have not ended, None if it cannot be read. `now` is in Unix seconds."""
    try:
        if _is_missing(DatabaseAddress(config.database)):
            return None
        store = await Store.open(
            config.database, timeout=config.timeout, key_file=config.key_file, auto_migrate=False
        )
    except (PrecallError, RuntimeError):
        return None  # said of the store already
    try:
        return await store.active(now)
    except PrecallError:
        return None
    finally:
        await store.close()


def _is_missing(address: DatabaseAddress) -> bool:
    """Whether this is an SQLite file that does not exist, and which must not be made here."""
    return address.is_sqlite and not Path(address.name).exists()


def database_clock_finding(skew: float) -> StepFinding:
    """Judge how far our clock is ahead of the database's, in seconds."""
    found = f"{abs(skew):.0f} s {'ahead of' if skew > 0 else 'behind'} the database"
    if abs(skew) > SKEW_NOTICED:
        fix = "set both clocks (NTP): SQL that reads the routing table judges expiry by the database's"
        return StepFinding("database clock", WARN, found, fix)
    return StepFinding(
        "database clock", OK, "within a few seconds of the database" if abs(skew) < 3 else found
    )


async def examine_port(address: str, key: str = "api.listen", *, tls: bool) -> ExaminedPort:
    """Say whether an address is free, or held by a running precall, or by something else. `key` has named it."""
    what, (host, port) = "API port", addresses.split_address(address)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
        return ExaminedPort(StepFinding(what, OK, f"{address} is free"))
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            why = f"{address} cannot be listened on: {os.strerror(error.errno or 0)}"
            return ExaminedPort(StepFinding(what, FAIL, why, f"correct {key}"))
    ready = await _readiness(f"{'https' if tls else 'http'}://{_reachable(host)}:{port}")
    if ready is None:
        fix = f"end what listens there, or change {key}; `ss -ltnp` names it"
        return ExaminedPort(StepFinding(what, FAIL, f"{address} is held by another program", fix))
    size = counted(ready["bindings"], "binding")
    found = f"{address} is held by precall {ready['version']}, which runs with {size}"
    return ExaminedPort(StepFinding(what, OK, found), ready)


def _reachable(host: str) -> str:
    """Return a host to ask for what listens on `host`, as a URL has it."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104  compared with, not listened on
    return f"[{host}]" if ":" in host else host


async def _readiness(url: str) -> dict[str, Any] | None:
    # Who holds the port is asked, not trusted: a certificate for another name will do.
    trusting = ssl.create_default_context()
    trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE
    try:
        async with DaemonClient(url, tls=trusting, timeout=PATIENCE) as client:
            answer = await client.exchange("GET", "/readyz")
    except PrecallError:
        return None
    content = answer.content
    return content if isinstance(content, dict) and {"version", "bindings"} <= content.keys() else None


def freshness_finding(config: Config, bindings: int) -> StepFinding:
    """Compare the age that routes reach at the configured rate with the promise."""
    rate, most = config.provider.rate, config.freshness.max_age
    if not bindings:
        keeps = int(most / longest_age(1, rate))
        return StepFinding(
            "freshness", OK, f"no bindings yet; {rate:g}/s keep {duration(most)} for up to {keeps:,} of them"
        )
    longest = longest_age(bindings, rate)
    found = f"{counted(bindings, 'binding')} at {rate:g}/s: every route is younger than {duration(longest)}"
    if longest <= most or config.freshness.promise != "all":
        kept = "" if longest <= most else f"; those that are dialled than {duration(most)}"
        return StepFinding("freshness", OK, f"{found}{kept}")
    fix = f"precall plan --bindings {bindings} --rate {rate:g}  # or raise provider.rate or freshness.max_age"
    return StepFinding("freshness", WARN, f"{found}, not {duration(most)}", fix)


def tls_finding(config: ApiConfig, now: float) -> StepFinding:
    """Say whether certificate and key can be used, and until when."""
    if mistakes := list(tls_mistakes(config, now)):
        return StepFinding("TLS", FAIL, "; ".join(mistakes), "correct it, or renew the certificate")
    end = validity(config.tls_cert_file)[1]
    if end - now < SOON:
        fix = "renew the certificate; precall reads it again by itself"
        return StepFinding("TLS", WARN, f"{config.tls_cert_file} ends {date_time(end)}", fix)
    return StepFinding("TLS", OK, f"{config.tls_cert_file} is good until {date_time(end)}")


def tokens_finding(config: ApiConfig) -> StepFinding:
    """Say who may ask."""
    wide = [
        address for address in config.listen if not addresses.is_loopback(addresses.split_address(address)[0])
    ]
    if config.tokens:
        names = ", ".join(token.name for token in config.tokens)
        return StepFinding("tokens", OK, f"{len(config.tokens)}: {names}")
    if not wide:
        return StepFinding("tokens", OK, "none: everyone on this machine may ask and give orders")
    fix = "precall token new --name NAME --scope SCOPE  # and add it to api.tokens"
    found = f"none, and {', '.join(wide)} can be reached from other machines"
    return StepFinding("tokens", WARN, found, fix)


def keys_finding(file: Path | None) -> StepFinding:
    """Say whether numbers are sealed, and whether the key file can be used."""
    if file is None:
        fix = "precall keys new --file FILE  # seals them; then set store.number_key_file"
        return StepFinding("number key", OK, "none: numbers are stored in plain", fix)
    try:
        keys = Cipher.of(file).names
    except ConfigError as error:
        return StepFinding("number key", FAIL, error.mistakes[0], "restore the file from its copy")
    return StepFinding("number key", OK, f"{file}: {counted(len(keys), 'key')}")


def disk_finding(url: str) -> StepFinding | None:
    """Say how much room there is beside an SQLite database; None for others."""
    folder = Path(url.removeprefix("sqlite:///").partition("?")[0]).absolute().parent
    if not url.startswith("sqlite") or not folder.is_dir():
        return None
    free = shutil.disk_usage(folder).free
    verdict = FAIL if free < DISK_FULL else WARN if free < DISK_LOW else OK
    found = f"{free / (1 << 30):.1f} GiB free in {folder}"
    fix = "" if verdict is OK else "make room: nothing can be registered or written down on a full disk"
    return StepFinding("disk", verdict, found, fix)


class _FirstRowError(Exception):
    """The query has given a row, which is enough."""


async def examine_source(config: SourceConfig, now: float) -> StepFinding:
    """Read the first row of the customer's database."""
    what, fix = "source", "precall source check  # shows all that a sync would do"

    def take(row: Binding | BadRow) -> None:
        if isinstance(row, BadRow):
            raise ConfigError([f"its first row: {row.column} {row.text}"])
        raise _FirstRowError

    try:
        await SourceQuery(config).rows(take, now)
    except _FirstRowError:
        return StepFinding(what, OK, "the query gives bindings")
    except (ConfigError, StoreError) as error:
        return StepFinding(what, FAIL, str(error), fix)
    except PrecallError as error:
        return StepFinding(what, FAIL, str(error), fix, out_of_reach=True)
    return StepFinding(what, WARN, "the query gives no rows", fix)
