"""Database URLs, parsed and validated before any driver sees them.

Every parameter is on one of three lists. *Mapped* ones work as in the tools of the database. *Ignored* ones tune what
precall leaves alone: dropping them weakens nothing, and a log line names them. All others are *refused* with a hint:
mistyped ones, those that a driver would pass on to the server, and those that promise a protection the driver lacks.
"""

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, quote, unquote, urlencode

HIGHEST_PORT = 65_535

POSTGRESQL_READ_BY_DRIVER = frozenset(
    {
        "host",
        "port",
        "dbname",
        "user",
        "password",
        "passfile",
        "service",
        "sslmode",
        "sslrootcert",
        "sslcert",
        "sslkey",
        "sslpassword",
        "sslcrl",
        "sslnegotiation",
        "ssl_min_protocol_version",
        "ssl_max_protocol_version",
        "target_session_attrs",
        "krbsrvname",
        "gsslib",
    }
)
POSTGRESQL_MAPPED = POSTGRESQL_READ_BY_DRIVER | {
    "connect_timeout",
    "application_name",
    "fallback_application_name",
    "options",
}
POSTGRESQL_IGNORED: Mapping[str, frozenset[str] | None] = {
    "keepalives": None,
    "keepalives_idle": None,
    "keepalives_interval": None,
    "keepalives_count": None,
    "tcp_user_timeout": None,
    "gssencmode": frozenset({"disable", "prefer"}),
    "gssdelegation": frozenset({"0"}),
    "channel_binding": frozenset({"disable", "prefer"}),
    "sslcompression": frozenset({"0"}),
    "sslsni": None,
    "sslcertmode": frozenset({"allow"}),
    "replication": frozenset({"false", "off", "no", "0"}),
    "client_encoding": None,
    "load_balance_hosts": None,
    "min_protocol_version": None,
    "max_protocol_version": None,
    "pgbouncer": None,
    "prepared_statement_cache_size": None,
    "statement_cache_size": None,
}
"""With the values for which each may be ignored (None: any)."""
POSTGRESQL_REFUSED = {
    "channel_binding": "this driver cannot do it; write sslmode=verify-full with sslrootcert=FILE, and leave it out",
    "require_auth": "this driver cannot insist on a way to log in; write sslmode=verify-full, and leave it out",
    "requirepeer": "this driver cannot check who serves a socket; guard the socket's directory, and leave it out",
    "gssencmode": "this driver has no GSSAPI encryption; write sslmode=verify-full instead",
    "gssdelegation": "this driver delegates no credentials; leave it out",
    "sslcertmode": "this driver sends the certificate of sslcert when it is asked for; leave it out",
    "sslcompression": "TLS is never compressed here; leave it out",
    "sslcrldir": "name one file with sslcrl=",
    "sslkeylogfile": "keys of sessions are not written anywhere; leave it out",
    "ssl": "write sslmode=require, or better sslmode=verify-full",
    "sslfactory": "write sslmode=require, or better sslmode=verify-full",
    "requiressl": "write sslmode=require, or better sslmode=verify-full",
    "hostaddr": "write the address as the host",
    "servicefile": "set the variable PGSERVICEFILE",
    "scram_client_key": "write the password, or passfile=",
    "scram_server_key": "write the password, or passfile=",
    "oauth_issuer": "this driver does not log in by OAuth",
    "replication": "precall opens ordinary sessions; leave it out",
    "schema": "write options=-csearch_path=NAME",
    "currentschema": "write options=-csearch_path=NAME",
    "search_path": "write options=-csearch_path=NAME",
}
_TLS_FILES = ("sslrootcert", "sslcert", "sslkey", "sslcrl")
_SSL_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
_SESSION_ATTRS = ("any", "read-write", "read-only", "primary", "standby", "prefer-standby")

MYSQL_MAPPED = frozenset(
    {
        "charset",
        "connect_timeout",
        "unix_socket",
        "program_name",
        "init_command",
        "sql_mode",
        "auth_plugin",
        "ssl_mode",
        "ssl_ca",
        "ssl_cert",
        "ssl_key",
        "ssl_check_hostname",
    }
)
MYSQL_IGNORED: Mapping[str, frozenset[str] | None] = {
    "use_unicode": None,
    "autocommit": None,
    "local_infile": frozenset({"0", "false"}),
    "read_timeout": None,
    "write_timeout": None,
    "compress": None,
    "autoreconnect": None,
    "useunicode": None,
    "usecursorfetch": None,
    "zerodatetimebehavior": None,
    "maxreconnects": None,
}
_TLS = "write ssl_mode=VERIFY_IDENTITY&ssl_ca=FILE for TLS, or nothing for none"
MYSQL_REFUSED = {
    "usessl": _TLS,
    "requiressl": _TLS,
    "sslmode": _TLS,
    "ssl": _TLS,
    "verifyservercertificate": _TLS,
    "ssl_capath": "name one file with ssl_ca=",
    "ssl_cipher": "ciphers are those of this machine's OpenSSL; leave it out",
    "ssl_verify_cert": "write ssl_mode=VERIFY_CA&ssl_ca=FILE",
    "ssl_verify_identity": "write ssl_mode=VERIFY_IDENTITY&ssl_ca=FILE",
    "servertimezone": "set source.timezone instead",
    "connectiontimezone": "set source.timezone instead",
    "allowpublickeyretrieval": "this driver asks for the server's key by itself; leave it out, and use TLS",
    "characterencoding": "write charset=utf8mb4",
    "connectioncollation": "write charset=utf8mb4",
    "connecttimeout": "write connect_timeout=SECONDS",
    "sockettimeout": "a read is ended after 120 s; leave it out",
    "allowloaddatalocal": "files of this machine are never sent; leave it out",
    "local_infile": "files of this machine are never sent; leave it out",
    "allowmultiqueries": "source.query is one SELECT; leave it out",
    "read_default_file": "write user, password and host into the URL, or the whole URL into source.url_file",
    "client_flag": "leave it out",
}
_MYSQL_SSL_MODES = ("DISABLED", "PREFERRED", "REQUIRED", "VERIFY_CA", "VERIFY_IDENTITY")

SQLITE_MAPPED = frozenset({"uri", "mode", "cache", "vfs", "psow"})
SQLITE_IGNORED: Mapping[str, frozenset[str] | None] = {
    "timeout": None,
    "check_same_thread": None,
    "cached_statements": None,
    "isolation_level": None,
    "detect_types": None,
    "autocommit": None,
    "journal_mode": None,
    "synchronous": None,
    "foreign_keys": None,
}
SQLITE_REFUSED = {
    "immutable": "the file is written to while it is read; leave it out",
    "nolock": "two processes would write over each other; leave it out",
    "key": "the file is not encrypted as a whole; number_key_file seals the numbers in it",
}


class DatabaseUrlError(ValueError):
    """A URL cannot be used. The text says why and what to write, without any secret of the URL."""


@dataclass(frozen=True, slots=True)
class PostgresqlUrl:
    """A PostgreSQL database: `dsn` for the driver, and what the driver does not handle.

    `settings` are sent to the server once connected. `connect_timeout` is in seconds, None if not given. `name` is for
    messages. `files` are the required TLS files by parameter.
    """

    dsn: str = field(repr=False)
    name: str
    password: str = field(repr=False)
    application_name: str
    connect_timeout: float | None
    settings: Mapping[str, str]
    files: Mapping[str, str]
    ignored: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class MysqlUrl:
    """A MySQL or MariaDB database: the URL without parameters, arguments for the driver, and the TLS mode.

    `tls` is None for no TLS. `files` are the TLS files by parameter.
    """

    plain: str = field(repr=False)
    arguments: Mapping[str, str | float]
    tls: str | None
    files: Mapping[str, str]
    ignored: tuple[str, ...]


def backend(url: str) -> str:
    """Return the kind of database without its driver, such as "sqlite" or "mysql". Raises DatabaseUrlError."""
    found = re.match(r"([A-Za-z][A-Za-z0-9_]*)(?:\+[A-Za-z0-9_]+)?://", url)
    if found is None:
        raise DatabaseUrlError("is not a URL; write postgresql://user@host/name or sqlite:////path")
    kind = found[1].lower()
    return {"postgres": "postgresql", "mariadb": "mysql"}.get(kind, kind)


def check(url: str) -> None:
    """Raise DatabaseUrlError for an unusable URL. Of unknown kinds of database only the port is checked."""
    match backend(url):
        case "postgresql":
            postgresql(url)
        case "mysql":
            mysql(url)
        case "sqlite":
            sqlite(url)
        case _:
            _hosts(_authority(url)[1])


def postgresql(url: str) -> PostgresqlUrl:
    """Parse a URL as libpq does. Raises DatabaseUrlError."""
    scheme = url.partition("://")[0]
    login, hosts = _authority(url)
    _hosts(hosts)
    user, colon, password = login.partition(":")
    given = _parameters(url)
    ignored = _sort_out(given, POSTGRESQL_MAPPED, POSTGRESQL_IGNORED, POSTGRESQL_REFUSED)
    _one_of(given, "sslmode", _SSL_MODES)
    _one_of(given, "target_session_attrs", _SESSION_ATTRS)
    _one_of(given, "sslnegotiation", ("postgres", "direct"))
    if given.get("sslrootcert") == "system":
        raise DatabaseUrlError(
            "this driver does not know sslrootcert=system; name the file, such as /etc/ssl/certs/ca-certificates.crt"
        )
    if "port" in given:
        for port in given["port"].split(","):
            _port(port)
    read = {name: value for name, value in given.items() if name in POSTGRESQL_READ_BY_DRIVER}
    again = quote(unquote(user), safe="") + (f":{quote(unquote(password), safe='')}" if colon else "")
    database = _PATH.sub("", url)
    at = "@" if login else ""
    hosts_read = hosts
    if "," in hosts and "[" in hosts:
        # As a parameter: between slashes the driver's parser accepts brackets around the first host alone.
        read.setdefault("host", unquote(hosts))
        hosts_read = ""
    shown = f"{scheme}://{user}{':***' if password else ''}{at}{hosts}{database}"
    return PostgresqlUrl(
        dsn=f"postgresql://{again}{at}{hosts_read}{database}" + (f"?{urlencode(read)}" if read else ""),
        name=shown,
        password=unquote(password) or given.get("password", ""),
        application_name=given.get("application_name") or given.get("fallback_application_name") or "precall",
        connect_timeout=_seconds(given, "connect_timeout"),
        settings=_settings(given.get("options", "")),
        files={name: given[name] for name in _TLS_FILES if given.get(name)},
        ignored=ignored,
    )


def mysql(url: str) -> MysqlUrl:
    """Parse a URL of MySQL or MariaDB. Raises DatabaseUrlError."""
    hosts = _authority(url)[1]
    if "," in hosts:
        raise DatabaseUrlError("names several hosts, but this driver supports only one")
    _hosts(hosts)
    given = {name.replace("-", "_"): value for name, value in _parameters(url).items()}
    ignored = _sort_out(given, MYSQL_MAPPED, MYSQL_IGNORED, MYSQL_REFUSED)
    files = {name: given[name] for name in ("ssl_ca", "ssl_cert", "ssl_key") if given.get(name)}
    mode = given.get("ssl_mode", "VERIFY_CA" if files else "DISABLED").upper()
    _one_of({"ssl_mode": mode}, "ssl_mode", _MYSQL_SSL_MODES)
    if given.get("ssl_check_hostname", "false").lower() in ("1", "true", "yes"):
        mode = "VERIFY_IDENTITY"
    arguments: dict[str, str | float] = {
        name: value for name, value in given.items() if not name.startswith("ssl_") and name in MYSQL_MAPPED
    }
    if (seconds := _seconds(given, "connect_timeout")) is not None:
        arguments["connect_timeout"] = seconds
    else:
        arguments.pop("connect_timeout", None)
    if mode == "PREFERRED":
        ignored = (*ignored, "ssl_mode=PREFERRED")
    tls = None if mode in ("DISABLED", "PREFERRED") else mode
    return MysqlUrl(url.partition("?")[0], arguments, tls, files, ignored)


def sqlite(url: str) -> tuple[str, ...]:
    """Return the ignored parameters of an SQLite URL. Raises DatabaseUrlError."""
    given = _parameters(url)
    allowed = {"mode": frozenset({"rw", "rwc", "ro", "memory"}), "cache": frozenset({"private", "shared"})}
    for name, values in allowed.items():
        _one_of(given, name, tuple(values))
    return _sort_out(given, SQLITE_MAPPED, SQLITE_IGNORED, SQLITE_REFUSED)


def _authority(url: str) -> tuple[str, str]:
    """Return user and password, and the hosts, both undecoded.

    `urlsplit` does not help: it refuses an IPv6 address that is not the first of several hosts.
    """
    netloc = _NETLOC.match(url)
    login, _, hosts = netloc[1].rpartition("@") if netloc else ("", "", "")
    if "[" in login or "]" in login or any(not _BRACKETS.fullmatch(host) for host in hosts.split(",")):
        raise DatabaseUrlError(
            "is not a URL: [ and ] stand around an IPv6 address only, and are %5B and %5D in a password"
        )
    return login, hosts


def _hosts(hosts: str) -> None:
    for one in hosts.split(","):
        host, bracket, rest = one.rpartition("]")
        if bracket and not host.startswith("["):
            raise DatabaseUrlError("an IPv6 address stands in brackets, as in [::1]:5432")
        _, colon, port = (rest if bracket else one).partition(":")
        if colon:
            _port(unquote(port))


def _port(port: str) -> None:
    # Not repeated: where an @ or a / of the password is not escaped, it is a part of the password.
    if port and not (port.isascii() and port.isdecimal() and 1 <= int(port) <= HIGHEST_PORT):
        raise DatabaseUrlError(
            f"a port is a number from 1 to {HIGHEST_PORT}; in a password : / ? # @ are written %3A %2F %3F %23 %40"
        )


def _parameters(url: str) -> dict[str, str]:
    """Return the parameters after the "?". Of repeated ones the last counts, as in libpq."""
    query = url.partition("?")[2].partition("#")[0].removesuffix("&")
    try:
        return dict(parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query)))
    except ValueError:
        raise DatabaseUrlError(
            "after the ? stand parameters, as in ?sslmode=verify-full&connect_timeout=5"
        ) from None


def _sort_out(
    given: Mapping[str, str],
    mapped: frozenset[str],
    ignored: Mapping[str, frozenset[str] | None],
    refused: Mapping[str, str],
) -> tuple[str, ...]:
    """Return the names of ignored parameters. Raises DatabaseUrlError for a refused one."""
    left: list[str] = []
    for name, value in given.items():
        key = name if name in mapped or name in ignored or name in refused else name.lower()
        fine = ignored.get(key, frozenset())
        if key in ignored and (fine is None or value.lower() in fine):
            left.append(name)
        elif key in refused and key not in mapped:
            shown = f"={value}" if key in ignored and re.fullmatch(r"[a-z_-]{1,32}", value) else ""
            raise DatabaseUrlError(f"{name}{shown}: {refused[key]}")
        elif name not in mapped:
            near = difflib.get_close_matches(key, sorted(mapped), 1)
            hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(sorted(mapped))}"
            raise DatabaseUrlError(f"{_shown(name)} is not a known parameter; {hint}")
    return tuple(left)


def _shown(name: str) -> str:
    """Return a parameter name if it looks like one. Anything else may be part of a password."""
    return name if re.fullmatch(r"[A-Za-z][A-Za-z_-]{0,40}", name) else "what stands after the ?"


def _one_of(given: Mapping[str, str], name: str, values: tuple[str, ...]) -> None:
    value = given.get(name)
    if value is None or value in values:
        return
    near = difflib.get_close_matches(value.lower(), [one.lower() for one in values], 1)
    meant = next((one for one in values if near and one.lower() == near[0]), "")
    hint = f"did you mean {meant}?" if meant else f"there are {', '.join(values)}"
    shown = value if re.fullmatch(r"[A-Za-z_-]{1,32}", value) else "this"
    raise DatabaseUrlError(f"{name}: {shown} is not one of its values; {hint}")


def _seconds(given: Mapping[str, str], name: str) -> float | None:
    """Return the seconds of a parameter, None without one and for 0, which means no limit."""
    text = given.get(name, "").strip()
    if not text:
        return None
    if not re.fullmatch(r"-?[0-9]{1,6}", text, re.ASCII):
        raise DatabaseUrlError(f"{name}: is a whole number of seconds, such as {name}=5")
    return float(text) if int(text) > 0 else None


_NETLOC = re.compile(r"[^:/?#]*://([^/?#]*)")
_PATH = re.compile(r"^[^:/?#]*://[^/?#]*|[?#].*", re.DOTALL)
"""All of a URL but its path."""
_BRACKETS = re.compile(r"[^][]*|\[[^][]*\][^][]*")
"""A host without brackets, or one that begins with a pair of them."""
_OPTION = re.compile(r"(?:-c\s*|--)([A-Za-z_][A-Za-z0-9_.-]*)=((?:\\.|[^\s\\])*)(?:\s+|$)")


def _settings(options: str) -> dict[str, str]:
    """Return the settings in `-c name=value --name=value`. A space within a value is escaped by a backslash."""
    found, rest = {}, options.strip()
    while rest:
        option = _OPTION.match(rest)
        if option is None:
            raise DatabaseUrlError("options: holds settings alone, as in options=-csearch_path=app")
        found[option[1].replace("-", "_")] = re.sub(r"\\(.)", r"\1", option[2])
        rest = rest[option.end() :]
    return found
