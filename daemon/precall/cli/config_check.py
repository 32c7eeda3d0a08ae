"""What `precall config check` finds without the network, beyond the values themselves: files, TLS, ports, drivers."""

import ssl
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from itertools import combinations
from pathlib import Path

from precall.api.access.tls import validity
from precall.cli.output import date_time
from precall.config import addresses
from precall.config.schema import ApiConfig, Config, ProviderConfig, StoreConfig, secret
from precall.core.errors import ConfigError, StoreError
from precall.engine.notify_targets import configured_targets
from precall.engine.source_query import SourceQuery
from precall.provider import configured_credentials
from precall.store import Cipher
from precall.store.connection import DatabaseAddress

EVERY_ADDRESS = frozenset({"0.0.0.0", "::"})  # noqa: S104  compared with, not listened on


def unusable(config: Config, now: float) -> tuple[list[str], list[str]]:
    """Return what keeps `precall run` from starting or from working as configured, and what could not be checked.

    `now` is in Unix seconds.
    """
    found = [
        *_credentials(config.provider),
        *_mistakes(lambda: _database(config.store)),
        *_mistakes(lambda: Cipher.of(config.store.key_file)),
        *tls_mistakes(config.api, now),
        *_same_ports(config.api),
        *(_mistakes(lambda: SourceQuery(config.source)) if config.source.configured else ()),
        *_mistakes(lambda: configured_targets(config.notify)),
    ]
    mistakes = [line for line in dict.fromkeys(found) if not _is_of_the_service(line, config)]
    unchecked = [line.partition(":")[0] for line in found if line not in mistakes]
    return mistakes, [f"{key}: a systemd credential is checked by the service alone" for key in unchecked]


def _is_of_the_service(mistake: str, config: Config) -> bool:
    """Whether this is about a systemd credential, which exists only for the running service."""
    name = config.store.number_key_file
    bare = mistake.startswith("store.number_key_file: ") and "/" not in name and not Path(name).exists()
    return bare or ": /run/credentials/" in mistake


def tls_mistakes(config: ApiConfig, now: float) -> Iterator[str]:
    """Yield what is wrong with the certificate, its key, and the authority of clients."""
    named = {
        key: getattr(config, key)
        for key in ("tls_cert_file", "tls_key_file", "client_ca_file")
        if getattr(config, key)
    }
    unread = [_unread(f"api.{key}", file) for key, file in named.items()]
    yield from filter(None, unread)
    if not named or any(unread):
        return
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(config.tls_cert_file, config.tls_key_file, password="")
    except ssl.SSLError as error:
        mismatch = error.reason == "KEY_VALUES_MISMATCH"
        yield (
            f"api.tls_key_file: {config.tls_key_file} is not the key of {config.tls_cert_file}"
            if mismatch
            else f"api.tls_cert_file: {config.tls_cert_file} and {config.tls_key_file} are no certificate and key in"
            " PEM (a key with a password is not accepted)"
        )
    else:
        start, end = validity(config.tls_cert_file)
        if end <= now:
            yield f"api.tls_cert_file: {config.tls_cert_file} ended {date_time(end)}"
        elif start > now:
            yield f"api.tls_cert_file: {config.tls_cert_file} is not valid before {date_time(start)}"
    if config.client_ca_file:
        try:
            context.load_verify_locations(config.client_ca_file)
        except ssl.SSLError:
            yield f"api.client_ca_file: {config.client_ca_file} holds no certificate in PEM"


def _database(config: StoreConfig) -> None:
    if not DatabaseAddress(config.database).is_sqlite and find_spec("asyncpg") is None:
        raise ConfigError(["store.url: its driver is not installed: pip install 'precall[postgres]'"])


def _credentials(config: ProviderConfig) -> list[str]:
    if not config.access_key_id:
        return []
    # Beside the whole, which gives up at the secret.
    file, key = config.security_token_file, "provider.security_token_file"
    return [
        *_mistakes(lambda: configured_credentials(config)),
        *_mistakes(lambda: secret(config.security_token, file, key)),
    ]


def _mistakes(work: Callable[[], object]) -> list[str]:
    try:
        work()
    except ConfigError as error:
        return list(error.mistakes)
    except StoreError as error:
        return [f"store.url: {str(error).removeprefix('store.url: ')}"]
    return []


def _unread(key: str, file: str) -> str:
    try:
        Path(file).open("rb").close()
    except OSError as error:
        return f"{key}: {file} cannot be read: {error.strerror}"
    return ""


def _same_ports(config: ApiConfig) -> Iterator[str]:
    """Name pairs of addresses of which only one can be listened on."""
    for (_, one), (key, other) in combinations(config.listeners, 2):
        (host, port), (other_host, other_port) = map(addresses.split_address, (one, other))
        overlap = (":" in host) == (":" in other_host) and EVERY_ADDRESS & {host, other_host}
        if port and port == other_port and (host == other_host or overlap):
            yield f"api.{key}: {one} and {other} are the same port"
