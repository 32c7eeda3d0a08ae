"""`precall config check`, `show` and `example`: every mistake that can be known without the network, and every key."""

import tomllib
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from precall.cli import app
from precall.config.schema import keys, load
from tests.integration.api.test_tls import Authority


def config(command: str, file: Path, content: str = "") -> Result:
    if content:
        file.write_text(content)
    return CliRunner().invoke(app, ["config", command, "--config", str(file)])


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path / "precall.toml"


def test_all_mistakes_are_named_at_once(file: Path) -> None:
    checked = config(
        "check",
        file,
        """
        [provider]
        rat = 3
        access_key_id = "x"
        access_key_secret_file = "/nowhere/secret"
        security_token_file = "/nowhere/token"
        [store]
        url = "sqlite:////nowhere/precall.db"
        number_key_file = "/nowhere/keys"
        [api]
        listen = ["0.0.0.0:8080", "127.0.0.1:8080", "[::1]:8080"]
        insecure = true
        tls_cert_file = "/nowhere/cert.pem"
        tls_key_file = "/nowhere/key.pem"
        client_ca_file = "/nowhere/ca.pem"
        [policy]
        fallback = "dial_rael"
        [source]
        url_file = "/nowhere/source"
        query = "SELECT 1"
        [notify]
        urls_file = "/nowhere/urls"
        """,
    )
    assert checked.exit_code == 3
    assert [line.partition(":")[0] for line in checked.stdout.splitlines()] == [
        "provider.rat",
        "policy.fallback",
        "provider.access_key_secret_file",
        "provider.security_token_file",
        "store.url",
        "store.number_key_file",
        "api.tls_cert_file",
        "api.tls_key_file",
        "api.client_ca_file",
        "api.listen",
        "source.url_file",
        "notify.urls_file",
    ]


@pytest.mark.parametrize(
    ("listen", "same"),
    [
        (["127.0.0.1:8080", "127.0.0.1:8080"], True),
        (["[::]:8080", "[::1]:8080"], True),
        (["0.0.0.0:8080", "[::]:8080"], False),
        (["127.0.0.1:0", "127.0.0.1:0"], False),
        (["127.0.0.1:8080", "127.0.0.2:8080"], False),
    ],
)
def test_addresses_of_which_only_one_can_be_listened_on(file: Path, listen: list[str], same: bool) -> None:
    checked = config("check", file, f"[api]\nlisten = {listen}\ninsecure = true\n")
    assert ("are the same port" in checked.stdout) is same
    assert checked.exit_code == (3 if same else 0)


def test_the_console_cannot_listen_where_the_api_does(file: Path) -> None:
    keys = 'listen = "127.0.0.1:8080"\nconsole_listen = "127.0.0.1:8080"\n'
    checked = config("check", file, f"[api]\n{keys}")
    assert "api.console_listen: 127.0.0.1:8080 and 127.0.0.1:8080 are the same port" in checked.stdout
    assert checked.exit_code == 3
    assert config("check", file, f"[api]\nconsole = false\n{keys}").exit_code == 0


def test_a_key_that_is_not_that_of_the_certificate(file: Path) -> None:
    authority = Authority("authority")
    cert, key = authority.issue(file.parent, "one", left=30)
    _, other = authority.issue(file.parent, "two", left=30)
    api = f'[api]\ntls_cert_file = "{cert}"\ntls_key_file = '
    assert config("check", file, f'{api}"{key}"').exit_code == 0
    checked = config("check", file, f'{api}"{other}"')
    assert (checked.exit_code, checked.stdout) == (
        3,
        f"api.tls_key_file: {other} is not the key of {cert}\n",
    )
    assert "no certificate and key in PEM" in config("check", file, f'{api}"{cert}"').stdout


def test_a_certificate_that_has_ended(file: Path) -> None:
    cert, key = Authority("authority").issue(file.parent, "old", left=-1)
    checked = config("check", file, f'[api]\ntls_cert_file = "{cert}"\ntls_key_file = "{key}"\n')
    assert checked.exit_code == 3
    assert checked.stdout.startswith(f"api.tls_cert_file: {cert} ended 20")


def test_a_driver_that_is_not_installed(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("precall.cli.config_check.find_spec", lambda _name: None)
    checked = config("check", file, '[store]\nurl = "postgresql://u:secret@host/x"\n')
    assert (checked.exit_code, checked.stdout) == (
        3,
        "store.url: its driver is not installed: pip install 'precall[postgres]'\n",
    )


def test_a_credential_of_systemd_is_left_to_the_service(file: Path) -> None:
    checked = config(
        "check",
        file,
        '[provider]\naccess_key_id = "x"\naccess_key_secret_file = "/run/credentials/x.service/secret"\n'
        '[store]\nnumber_key_file = "number-keys"\n',
    )
    assert checked.exit_code == 0
    assert "note: provider.access_key_secret_file: a systemd credential" in checked.stderr
    assert "note: store.number_key_file: a systemd credential" in checked.stderr


def test_show_names_every_key_its_value_and_its_origin(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PRECALL_PROVIDER__RATE", "12.5")
    monkeypatch.setenv("PRECALL_NOTIFY__URLS", '["dingtalk://secret"]')
    shown = config(
        "show",
        file,
        """
        [provider]
        access_key_secret = "secret"
        access_key_id = "x"
        proxy = "http://me:secret@proxy:3128"
        [store]
        url = "postgresql://me:secret@host/x?sslpassword=secret"
        [policy]
        temporary_ttl = "90s"
        [source]
        url = "postgresql://me:secret@host/x"
        query = "SELECT 'secret'"
        [[api.tokens]]
        name = "kamailio"
        scopes = ["routes:read"]
        sha256 = "%s"
        """
        % ("ab" * 32),
    )
    assert shown.exit_code == 0, shown.output
    assert "secret@" not in shown.stdout
    assert "ab" * 32 not in shown.stdout
    lines = shown.stdout.splitlines()
    assert [line.partition(" = ")[0] for line in lines] == keys()
    for line in (
        f'provider.access_key_secret = "***"  # file {file}',
        'provider.security_token = ""  # default',
        f'provider.proxy = "http://***@proxy:3128"  # file {file}',
        "provider.rate = 12.5  # PRECALL_PROVIDER__RATE",
        "provider.burst = 12.5  # default",
        f'store.url = "postgresql://***@host/x?sslpassword=***"  # file {file}',
        "store.auto_migrate = false  # default",
        f'policy.temporary_ttl = "90s"  # file {file}',
        'freshness.max_age = "5m"  # default',
        f'source.query = "***"  # file {file}',
        'notify.urls = ["***"]  # PRECALL_NOTIFY__URLS',
        f'api.tokens = [{{ name = "kamailio", scopes = ["routes:read"], sha256 = "abababab***" }}]  # file {file}',
    ):
        assert line in lines


def test_what_show_prints_of_the_defaults_is_a_configuration_with_the_same_values(file: Path) -> None:
    shown = CliRunner().invoke(app, ["config", "show"])
    assert tomllib.loads(shown.stdout)["provider"]["burst"] == 20
    file.write_text(shown.stdout)
    again = config("show", file)
    assert [line.partition("  #")[0] for line in again.stdout.splitlines()] == [
        line.partition("  #")[0] for line in shown.stdout.splitlines()
    ]


def test_the_example_is_accepted(file: Path) -> None:
    example = CliRunner().invoke(app, ["config", "example"])
    file.write_text(example.stdout)
    assert load(file) == load(None)
