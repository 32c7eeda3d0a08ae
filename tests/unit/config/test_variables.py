"""Environment variables: those of precall are strict, others are ignored, and empty ones count as unset."""

import json
from pathlib import Path

import pytest

from precall.config.schema import load, remarks
from precall.core.errors import ConfigError

SERVICE_LINKS = {
    "PRECALL_SERVICE_HOST": "10.0.0.7",
    "PRECALL_SERVICE_PORT": "8080",
    "PRECALL_SERVICE_PORT_HTTP": "8080",
    "PRECALL_PORT": "tcp://10.0.0.7:8080",
    "PRECALL_PORT_8080_TCP": "tcp://10.0.0.7:8080",
    "PRECALL_PORT_8080_TCP_PROTO": "tcp",
    "PRECALL_PORT_8080_TCP_PORT": "8080",
    "PRECALL_PORT_8080_TCP_ADDR": "10.0.0.7",
    "PRECALL_METRICS_SERVICE_HOST": "10.0.0.8",
    "PRECALL_METRICS_PORT": "tcp://10.0.0.8:9090",
    "PRECALL__CANARY_SERVICE_PORT_HTTP": "8080",
    "PRECALL__CANARY_PORT": "tcp://10.0.0.9:8080",
    "PRECALL__CANARY_PORT_53_UDP_ADDR": "10.0.0.9",
    "PRECALL_NAME": "/app/precall",
    "PRECALL_ENV_PRECALL_STORE__URL": "sqlite:///other.db",
    "PRECALL_VERSION": "0.1.0",
    "PRECALL_HOME": "/opt/precall",
    "PRECALL_URL": "http://127.0.0.1:1",
}


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)


def mistakes() -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(None)
    return caught.value.mistakes


def test_foreign_variables_named_precall_are_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in SERVICE_LINKS.items():
        monkeypatch.setenv(name, value)
    assert remarks(load(None)) == []


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("PRECALL_PROVIDER__RAET", "PRECALL_PROVIDER__RATE"),
        ("PRECALL_PROVIDR__RATE", "PRECALL_PROVIDER__RATE"),
        ("precall_api__listne", "PRECALL_API__LISTEN"),
        ("PRECALL_API__PORT", ""),
    ],
)
def test_a_mistyped_key_is_a_mistake(name: str, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "8080")
    (line,) = mistakes()
    assert line.startswith(f"{name}: unknown variable")
    assert said in line


def test_a_missing_underscore_is_pointed_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PRECALL_PROVIDER_RATE", "50")
    config = load(None)
    assert config.provider.rate == 20
    assert remarks(config) == ["PRECALL_PROVIDER_RATE: is not read; did you mean PRECALL_PROVIDER__RATE?"]


@pytest.mark.parametrize(
    "name",
    [
        "PRECALL_PROVIDER__BURST",
        "PRECALL_PROVIDER__ACCESS_KEY_SECRET",
        "PRECALL_STORE__AUTO_MIGRATE",
        "PRECALL_STORE__URL",
        "PRECALL_STORE__URL_FILE",
        "PRECALL_API__INSECURE",
        "PRECALL_API__LISTEN",
        "PRECALL_API__TOKENS",
        "PRECALL_SOURCE__URL",
        "PRECALL_LOG__LEVEL",
        "PRECALL_LOG",
    ],
)
def test_an_empty_variable_counts_as_unset(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    before = load(None)
    monkeypatch.setenv(name, "")
    assert load(None) == before


@pytest.mark.parametrize(
    ("value", "listen"),
    [
        ("127.0.0.1:8080", ["127.0.0.1:8080"]),
        ("127.0.0.1:8080,[::1]:8080", ["127.0.0.1:8080", "[::1]:8080"]),
        (" 127.0.0.1:8080 , [::1]:8080, ", ["127.0.0.1:8080", "[::1]:8080"]),
        ("[::1]:8080", ["[::1]:8080"]),
        ('"127.0.0.1:8080"', ["127.0.0.1:8080"]),
        ('["127.0.0.1:8080", "[::1]:8080"]', ["127.0.0.1:8080", "[::1]:8080"]),
    ],
)
def test_a_list_is_written_plainly_or_as_json(
    value: str, listen: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PRECALL_API__LISTEN", value)
    assert load(None).api.listen == listen


def test_a_wrong_list_is_named_with_its_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PRECALL_API__LISTEN", "8080")
    assert mistakes() == ["""api.listen.0: '8080' must look like "127.0.0.1:8080" or "[::1]:8080\""""]


def test_a_list_of_tables_says_its_form(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PRECALL_API__TOKENS", "abc")
    (line,) = mistakes()
    assert line.startswith('api.tokens: should be a list of tables; in a variable: [{"name": ')
    token = {"name": "a", "scopes": ["admin"], "sha256": "0" * 64}
    monkeypatch.setenv("PRECALL_API__TOKENS", json.dumps([token]))
    assert [one.name for one in load(None).api.tokens] == ["a"]


def test_a_section_that_is_not_a_table_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PRECALL_LOG", "debug")
    (line,) = mistakes()
    assert line.startswith("log: ")
