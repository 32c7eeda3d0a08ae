"""Remedies can be pasted: they name the daemon or the file that the user named."""

import typer
from typer.testing import CliRunner

from precall.cli import app
from precall.cli.remedies import GivenOptions
from precall.cli.target import Target, target

PROGRAM = typer.main.get_command(app)
DAEMON = GivenOptions(
    frozenset({"url", "token_file"}), ("--url", "https://a:8443", "--token-file", "my token"), PROGRAM
)
FILE = GivenOptions(frozenset({"config"}), ("--config", "/etc/precall/config.toml"), PROGRAM)


def test_a_command_gets_the_options_that_it_takes_before_its_comment() -> None:
    reach = "--url https://a:8443 --token-file 'my token'"
    assert (
        DAEMON.into("precall brake release --pool-key FC1  # only if it is exhausted")
        == f"precall brake release --pool-key FC1 {reach}  # only if it is exhausted"
    )
    assert DAEMON.into("precall status --watch") == f"precall status --watch {reach}"
    assert FILE.into("precall source check  # shows all") == (
        "precall source check --config /etc/precall/config.toml  # shows all"
    )
    assert FILE.into("`precall run` or `precall migrate` makes it") == (
        "`precall run --config /etc/precall/config.toml` or"
        " `precall migrate --config /etc/precall/config.toml` makes it"
    )


def test_other_commands_and_words_stay_as_they_are() -> None:
    for text in (
        "precall plan --bindings 5 --rate 1  # what this rate achieves", "top -b -n 1 | head -n 15",
        "precall doctor", "renew the certificate", "precall explain 'unclosed", "", "ask precall status",
    ):  # fmt: skip
        assert DAEMON.into(text) == text
        assert GivenOptions().into(text) == text
    assert FILE.into("precall resume --pool-key FC1") == "precall resume --pool-key FC1"


def test_only_what_was_typed_is_repeated() -> None:
    seen: list[Target] = []
    program = typer.Typer()

    @program.command()
    def command(
        context: typer.Context,
        url: str = typer.Option("http://127.0.0.1:8080", envvar="PRECALL_URL"),
        token_file: str = typer.Option("", envvar="PRECALL_TOKEN_FILE"),
    ) -> None:
        seen.append(target(context=context, url=url))

    runner = CliRunner()
    assert runner.invoke(program, ["--url", "https://a:8443"]).exit_code == 0
    assert runner.invoke(program, [], env={"PRECALL_URL": "https://b:8443"}).exit_code == 0
    assert [one.options.words for one in seen] == [("--url", "https://a:8443"), ()]
