"""Three lists of parameters for every kind of database: mapped, ignored, refused; no secret is repeated."""

import inspect
import re
import sys
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import pytest
from asyncpg import connect_utils
from hypothesis import given
from hypothesis import strategies as st

from precall.config.database_url import (
    MYSQL_IGNORED,
    MYSQL_MAPPED,
    MYSQL_REFUSED,
    POSTGRESQL_IGNORED,
    POSTGRESQL_MAPPED,
    POSTGRESQL_REFUSED,
    DatabaseUrlError,
    check,
    mysql,
    postgresql,
    sqlite,
)
from precall.config.schema import load
from precall.core.errors import ConfigError
from precall.store.source_engine import EngineRows

PG = "postgresql://u:S3cret@h/d"
MY = "mysql://u:S3cret@h/d"
PAGE = (Path(__file__).parents[3] / "docs" / "databases.md").read_text(encoding="utf-8")


def test_the_documentation_lists_every_url_parameter() -> None:
    table = PAGE.partition("## Parameters of a database URL")[2].partition("\n##")[0]
    named = set(re.findall(r"`([A-Za-z_]+)(?:=[^`]*)?`", table))
    lower = {name.lower() for name in named}
    for one in (*POSTGRESQL_MAPPED, *POSTGRESQL_IGNORED, *MYSQL_MAPPED):
        assert one in named, one
    for one in (*POSTGRESQL_REFUSED, *MYSQL_IGNORED, *MYSQL_REFUSED):
        assert one in lower, one


def test_driver_parameters_are_passed_on_and_others_mapped() -> None:
    result = postgresql(
        "postgresql://u%40x:p%2F@h1:1,[::1]:2/d?sslmode=disable&target_session_attrs=read-write&passfile=/f"
        "&connect_timeout=5&application_name=a&options=-csearch_path%3Dx%2Cy%20--lock-timeout%3D5&keepalives=1"
    )
    assert result.dsn == (
        "postgresql://u%40x:p%2F@/d?sslmode=disable&target_session_attrs=read-write&passfile=%2Ff"
        "&host=h1%3A1%2C%5B%3A%3A1%5D%3A2"
    )
    assert (result.connect_timeout, result.application_name, result.password) == (5.0, "a", "p/")
    assert result.settings == {"search_path": "x,y", "lock_timeout": "5"}
    assert result.ignored == ("keepalives",)
    assert result.name == "postgresql://u%40x:***@h1:1,[::1]:2/d"


@pytest.mark.parametrize("hosts", ["h1:1,[::1]:2", "[::1]:2,h1:1"])
def test_the_driver_finds_every_host(hosts: str) -> None:
    """Newer versions of Python's URL parser, which the driver uses, refuse brackets behind a comma."""
    parse = vars(connect_utils)["_parse_connect_dsn_and_args"]
    arguments: dict[str, str | None] = dict.fromkeys(inspect.signature(parse).parameters)
    found, _ = parse(**arguments | {"dsn": postgresql(f"postgresql://u:p@{hosts}/d").dsn})
    assert sorted(found) == [("::1", 2), ("h1", 1)]


def test_defaults() -> None:
    result = postgresql("postgres:///d?connect_timeout=0&fallback_application_name=b")
    assert (result.connect_timeout, result.application_name, result.settings) == (None, "b", {})
    assert postgresql(PG).application_name == "precall"
    assert postgresql("postgresql://u:p@ss@h/d").dsn == "postgresql://u:p%40ss@h/d"


@pytest.mark.parametrize("name", sorted(POSTGRESQL_IGNORED))
def test_harmless_parameters_are_ignored(name: str) -> None:
    values = POSTGRESQL_IGNORED[name]
    for value in values or {"1"}:
        assert postgresql(f"{PG}?{name}={value}").ignored == (name,)


@pytest.mark.parametrize("name", sorted(POSTGRESQL_REFUSED))
def test_parameters_that_weaken_security_are_refused(name: str) -> None:
    with pytest.raises(DatabaseUrlError, match=rf"^{name}(=require)?: .*") as caught:
        check(f"{PG}?{name}=require")
    assert POSTGRESQL_REFUSED[name] in str(caught.value)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        (
            f"{PG}?channel_binding=require",
            "channel_binding=require: this driver cannot do it; write sslmode=verify-full",
        ),
        (f"{PG}?sslmode=verify_full", "sslmode: .* did you mean verify-full"),
        (f"{PG}?sslmode=Require", "did you mean require"),
        (f"{PG}?sslmode=x", "there are disable, allow"),
        (f"{PG}?sslrootcert=system", "name the file"),
        (f"{PG}?conect_timeout=5", "did you mean connect_timeout"),
        (f"{PG}?connect_timeout=5s", "whole number of seconds"),
        (f"{PG}?zzz=1", "zzz is not a known parameter; there are application_name, "),
        (f"{PG}?sslmode", "after the \\? stand parameters"),
        (f"{PG}?options=-W", "holds settings alone"),
        (f"{PG}?currentSchema=app", "currentSchema: write options=-csearch_path=NAME"),
        (f"{PG}?port=99999", "from 1 to 65535"),
        ("postgresql://u@h:0/d", "from 1 to 65535"),
        ("postgresql://u@h:https/d", "from 1 to 65535"),
        ("postgresql://u@h1:1,h2:99999/d", "from 1 to 65535"),
        ("postgresql://u:S3cret/x@h/d", "from 1 to 65535.*%2F"),
        ("postgresql://u:[S3cret@h/d", "in a password"),
        (f"{MY}?useSSL=false", "^useSSL: write ssl_mode=VERIFY_IDENTITY"),
        (f"{MY}?serverTimezone=UTC", "set source.timezone"),
        (f"{MY}?allowPublicKeyRetrieval=true", "leave it out"),
        (f"{MY}?characterEncoding=utf8", "write charset=utf8mb4"),
        (f"{MY}?chraset=utf8", "did you mean charset"),
        (f"{MY}?ssl_mode=VERIFY", "did you mean VERIFY_CA"),
        (f"{MY}?local_infile=1", "never sent"),
        ("mysql://h1,h2/d", "several hosts"),
        ("mysql://h:99999/d", "from 1 to 65535"),
        ("mssql://h:99999/d", "from 1 to 65535"),
        ("sqlite:////f.db?immutable=1", "leave it out"),
        ("sqlite:////f.db?mode=rx", "mode: "),
        ("sqlite:////f.db?jornal=1", "not a known parameter"),
        ("app.db", "is not a URL"),
    ],
)
def test_an_unusable_url_error_says_what_to_write(url: str, said: str) -> None:
    with pytest.raises(DatabaseUrlError, match=said) as caught:
        check(url)
    assert "S3cret" not in str(caught.value)


def test_parameters_of_mysql() -> None:
    result = mysql(
        f"{MY}?charset=utf8mb4&connect_timeout=5&ssl-mode=verify_identity&ssl_ca=/ca&autoReconnect=true"
    )
    assert (result.plain, result.tls, result.files) == (MY, "VERIFY_IDENTITY", {"ssl_ca": "/ca"})
    assert result.arguments == {"charset": "utf8mb4", "connect_timeout": 5.0}
    assert result.ignored == ("autoReconnect",)
    assert (mysql(MY).tls, mysql(f"{MY}?ssl_ca=/ca").tls, mysql(f"{MY}?ssl_mode=PREFERRED").ignored) == (
        None,
        "VERIFY_CA",
        ("ssl_mode=PREFERRED",),
    )


def test_parameters_of_sqlite() -> None:
    assert sqlite("sqlite:////f.db?timeout=5&mode=rwc&uri=true") == ("timeout",)


def test_the_configuration_names_the_key(tmp_path: Path) -> None:
    file = tmp_path / "c.toml"
    file.write_text(
        f'[store]\nurl = "{PG}?sslmode=Require"\n[source]\nurl = "{MY}?useSSL=true"\nquery = "SELECT 1"\n'
    )
    with pytest.raises(ConfigError) as caught:
        load(file)
    assert caught.value.mistakes == [
        "store.url: sslmode: Require is not one of its values; did you mean require?",
        "source.url: useSSL: write ssl_mode=VERIFY_IDENTITY&ssl_ca=FILE for TLS, or nothing for none",
    ]


@given(st.text(max_size=60), st.sampled_from(["postgresql", "mysql", "sqlite", "oracle"]))
def test_any_text_is_a_valid_url_or_a_config_error(rest: str, scheme: str) -> None:
    with suppress(DatabaseUrlError):
        check(f"{scheme}://{rest}")


def test_a_trailing_ampersand_is_ignored() -> None:
    check(f"{PG}?sslmode=require&")
    assert mysql(f"{MY}?charset=utf8mb4&").arguments == {"charset": "utf8mb4"}
    with pytest.raises(DatabaseUrlError):
        check(f"{PG}?sslmode=require&&")


def test_an_unsupported_charset_is_refused_before_connecting(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    driver = SimpleNamespace(charset_by_name={"utf8mb4": object()}.get)
    monkeypatch.setitem(sys.modules, "pymysql.charset", driver)
    url = f"{MY}?charset=utf8mb5"
    with pytest.raises(ConfigError, match="write charset=utf8mb4"):
        EngineRows(url.partition("?")[0], mysql(url))
