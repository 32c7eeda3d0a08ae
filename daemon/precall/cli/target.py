"""Which daemon a client command asks, and how: its address, a token, and TLS.

All client commands share the options for it.
"""

import re
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, TypeVar
from urllib.parse import urlsplit

import typer

from precall.cli.client import DaemonClient
from precall.cli.options import supplied
from precall.cli.remedies import NOTHING_GIVEN, GivenOptions, given
from precall.core.errors import ConfigError

DEFAULT_URL = "http://127.0.0.1:8080"
PANEL = "Connection to the daemon"

R = TypeVar("R")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_TOKEN = re.compile(r"[!-~]+")
_BLANK = " \t\r\n\v\f\0\u00a0\u200b\ufeff"
"""Characters that an editor, a shell or a secret store may leave around a token."""


@dataclass(frozen=True, slots=True)
class Target:
    """A running daemon. Without `tls` the system's authorities are trusted and no certificate is shown.

    `options` are those that the user typed to reach it.
    """

    url: str
    token: str = field(default="", repr=False)
    tls: ssl.SSLContext | None = None
    shows_certificate: bool = False
    options: GivenOptions = NOTHING_GIVEN

    def client(self, timeout: float = 30.0) -> DaemonClient:
        """Return a client of the daemon. `timeout` is for each response, in seconds."""
        return DaemonClient(
            self.url,
            self.token,
            tls=self.tls,
            shows_certificate=self.shows_certificate,
            timeout=timeout,
        )


def asks(work: Callable[..., R]) -> Callable[..., R]:
    """Give a command that takes `daemon: Target` the options that choose it."""
    return supplied(work, "daemon", target)


def target(
    *,
    context: typer.Context,
    url: Annotated[
        str, typer.Option(envvar="PRECALL_URL", help="Address of the daemon.", rich_help_panel=PANEL)
    ] = DEFAULT_URL,
    token: Annotated[str, typer.Option(envvar="PRECALL_TOKEN", hidden=True)] = "",
    token_file: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            envvar="PRECALL_TOKEN_FILE",
            help="File with the token, unless PRECALL_TOKEN is set.",
            rich_help_panel=PANEL,
        ),
    ] = None,
    cacert: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            envvar="PRECALL_CACERT",
            help="Trusted authorities. Default: those of the system.",
            rich_help_panel=PANEL,
        ),
    ] = None,
    cert: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            envvar="PRECALL_CERT",
            help="Client certificate, for api.client_ca_file.",
            rich_help_panel=PANEL,
        ),
    ] = None,
    key: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            envvar="PRECALL_KEY",
            help="Key of --cert, unless it is in the same file.",
            rich_help_panel=PANEL,
        ),
    ] = None,
) -> Target:
    """Return the daemon that these options name. Usage error, or ConfigError for an unusable file or token."""
    if key is not None and cert is None:
        raise typer.BadParameter("--key goes with --cert")
    if token_file is not None and (not token or _was_typed(context, "token_file")):
        token = _read(token_file)
    files = {"token_file": token_file, "cacert": cacert, "cert": cert, "key": key}
    options = given(context, {"url": url, **files})
    wants_tls = any(file is not None for file in (cacert, cert, key))
    url = address(url, "https" if wants_tls else "http")
    tls = _context(cacert, cert, key) if url.startswith("https:") and wants_tls else None
    if wants_tls and tls is None and any(_was_typed(context, name) for name in ("cacert", "cert", "key")):
        raise typer.BadParameter(f"{url} does not use TLS: write https:// for --cacert, --cert and --key")
    return Target(url, bare_token(token), tls, cert is not None, options)


def address(text: str, scheme: str = "http") -> str:
    """Return the URL of an address, with a scheme and without a trailing slash. Usage error if it has none."""
    given = text.strip(_BLANK)
    shown = "--url" if "@" in given else f"--url {given}"  # what stands before an @ may be a password
    if not _SCHEME.match(given):
        # "//host:1" names no scheme either, ":1" no host.
        given = f"{scheme}://{given.removeprefix('//')}".replace("://:", "://127.0.0.1:")
    try:
        parts = urlsplit(given)
        host, port = parts.hostname, parts.port
    except ValueError:
        host = port = None
        parts = urlsplit("")
    if parts.scheme not in ("http", "https") or not host or port == 0 or re.search(r"\s", given):
        raise typer.BadParameter(f'{shown} is not an address: write it like "http://127.0.0.1:8080"')
    if "@" in parts.netloc:
        raise typer.BadParameter(
            f"{shown}: a token goes into PRECALL_TOKEN or --token-file, not into the address"
        )
    if parts.query or parts.fragment:
        raise typer.BadParameter(f"{shown}: nothing may follow the path of the address")
    return given.rstrip("/")


def bare_token(text: str) -> str:
    """Return a token without surrounding blanks. Raises ConfigError if no header can carry it."""
    token = text.strip(_BLANK)
    if token and not _TOKEN.fullmatch(token):
        raise ConfigError([_CARRIED_BY_NO_HEADER])
    return token


_CARRIED_BY_NO_HEADER = (
    "the token (PRECALL_TOKEN or --token-file) holds a space, a line break or a character outside ASCII, which no"
    " header carries: give the one line that `precall token new` printed behind `token:`"
)


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError([f"--token-file {file}: cannot be read: {error.strerror}"]) from None
    except UnicodeDecodeError:
        raise ConfigError([f"--token-file {file}: is not text in UTF-8"]) from None


def _context(cacert: Path | None, cert: Path | None, key: Path | None) -> ssl.SSLContext:
    for option, file in (("--cacert", cacert), ("--cert", cert), ("--key", key)):
        _must_be_readable(option, file)
    try:
        directory = cacert is not None and cacert.is_dir()
        context = ssl.create_default_context(
            cafile=None if directory else cacert, capath=cacert if directory else None
        )
    except ssl.SSLError:
        raise ConfigError([f"--cacert {cacert}: does not hold a certificate in PEM"]) from None
    if cert is not None:
        try:
            # A password is never asked for.
            context.load_cert_chain(cert, key, password="")
        except ssl.SSLError as error:
            mismatch = error.reason == "KEY_VALUES_MISMATCH"
            said = "the key is not that of the certificate" if mismatch else _NO_PAIR
            raise ConfigError([f"--cert {cert}{f' with --key {key}' if key else ''}: {said}"]) from None
    return context


_NO_PAIR = "no certificate and key in PEM can be read there (a key with a password is not accepted)"


def _must_be_readable(option: str, file: Path | None) -> None:
    if file is None or file.is_dir():
        return
    try:
        file.open("rb").close()
    except OSError as error:
        raise ConfigError([f"{option} {file}: cannot be read: {error.strerror}"]) from None


def _was_typed(context: typer.Context, name: str) -> bool:
    """Whether an option was given on the command line, rather than by a variable or by default."""
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"
