"""How client commands find their daemon: addresses, tokens, certificates."""

from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from precall.cli.target import Target, address, asks, bare_token
from precall.core.errors import ConfigError
from tests.integration.api.test_tls import Authority

TOKEN = "nThBz0zsHpLzIqE7b5uqkV7YhI3Xr1xBvY1R9C3HZ2s"


@pytest.mark.parametrize(
    ("given", "url"),
    [
        ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
        ("127.0.0.1:8080", "http://127.0.0.1:8080"),
        (" localhost:8080/\n", "http://localhost:8080"),
        (":8080", "http://127.0.0.1:8080"),
        ("//precall:8080", "http://precall:8080"),
        ("[::1]:8080", "http://[::1]:8080"),
        ("https://precall.example/checks/", "https://precall.example/checks"),
    ],
)
def test_addresses_are_completed_to_urls(given: str, url: str) -> None:
    assert address(given) == url


def test_certificates_mean_tls() -> None:
    assert address("precall:8080", "https") == "https://precall:8080"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("ftp://precall", "is not an address"),
        ("http://", "is not an address"),
        ("http://precall:99999", "is not an address"),
        ("http://pre call", "is not an address"),
        ("http://precall?x=1", "nothing may follow"),
        ("http://user:hush-hush@precall", "a token goes into PRECALL_TOKEN"),
        ("", "is not an address"),
    ],
)
def test_invalid_addresses_are_named(given: str, said: str) -> None:
    with pytest.raises(typer.BadParameter, match=said) as caught:
        address(given)
    assert "hush" not in str(caught.value)


@pytest.mark.parametrize("around", ["{}", "{}\n", "{}\r\n", " {}\t", "\ufeff{}", "\n{}\0"])
def test_whitespace_around_a_token_is_removed(around: str) -> None:
    assert bare_token(around.format(TOKEN)) == TOKEN


@pytest.mark.parametrize("given", [f"{TOKEN}\n{TOKEN}", f"{TOKEN[:5]} {TOKEN}", f"{TOKEN}é", f"a\x1b{TOKEN}"])
def test_a_token_that_no_header_can_carry_is_refused_without_repeating_it(given: str) -> None:
    with pytest.raises(ConfigError, match="which no header carries") as caught:
        bare_token(given)
    assert TOKEN[:5] not in str(caught.value)


def asked_with(*args: str | Path, **variables: str | Path) -> Target:
    """What a command is given for these options and variables."""
    app, found = typer.Typer(), list[Target]()

    @app.command()
    @asks
    def command(*, daemon: Target) -> None:
        found.append(daemon)

    ended = CliRunner().invoke(
        app,
        [str(one) for one in args],
        env={name: str(value) for name, value in variables.items()},
        catch_exceptions=False,
    )
    if not found:
        raise typer.BadParameter(ended.output)
    return found[0]


def test_tokens_come_from_the_command_line_first(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_bytes(b"\xef\xbb\xbf" + f"{TOKEN}\r\n".encode())
    assert asked_with("--token-file", file).token == TOKEN
    assert asked_with(PRECALL_TOKEN_FILE=file).token == TOKEN
    assert asked_with("--token-file", file, PRECALL_TOKEN="other").token == TOKEN
    assert asked_with(PRECALL_TOKEN_FILE=file, PRECALL_TOKEN="other").token == "other"
    assert TOKEN not in repr(asked_with("--token-file", file))


def test_unusable_files_are_named(tmp_path: Path) -> None:
    authority = Authority("authority")
    pair, other = authority.issue(tmp_path, "one"), authority.issue(tmp_path, "two")
    text = tmp_path / "text"
    text.write_text("no certificate")
    for args, said in (
        (["--token-file", tmp_path / "none"], "--token-file .*none: cannot be read: No such file"),
        (["--cacert", tmp_path / "none"], "--cacert .*none: cannot be read: No such file"),
        (["--cacert", text], "--cacert .*text: does not hold a certificate in PEM"),
        (["--cert", text], "--cert .*text: no certificate and key in PEM"),
        (["--cert", pair[0], "--key", other[1]], "the key is not that of the certificate"),
    ):
        with pytest.raises(ConfigError, match=said):
            asked_with("--url", "https://precall", *args)
    with pytest.raises(typer.BadParameter, match="--key goes with --cert"):
        asked_with("--key", pair[1])
    with pytest.raises(typer.BadParameter, match="write https://"):
        asked_with("--url", "http://precall", "--cert", pair[0], "--key", pair[1])


def test_certificates_come_from_variables_too(tmp_path: Path) -> None:
    authority = Authority("authority")
    ca = tmp_path / "ca.pem"
    ca.write_bytes(authority.pem)
    cert, key = authority.issue(tmp_path, "one")
    result = asked_with("--url", "precall:8080", PRECALL_CACERT=ca, PRECALL_CERT=cert, PRECALL_KEY=key)
    assert (result.url, result.shows_certificate) == ("https://precall:8080", True)
    assert result.tls is not None
    assert len(result.tls.get_ca_certs()) == 1
    plain = asked_with("--url", "http://precall", PRECALL_CACERT=ca, PRECALL_CERT=cert, PRECALL_KEY=key)
    assert (plain.url, plain.tls) == ("http://precall", None)
