"""`--help` of every command: a one-line summary, wrapped texts, examples that parse, and flags without a type."""

import shlex
from collections.abc import Iterator
from typing import Any

import click
import pytest
import typer
from typer.testing import CliRunner

from precall.cli import app
from precall.cli.examples import EXAMPLES
from precall.cli.help import tidy

WIDTH = 80


def commands(command: Any, words: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    yield words, command
    for name, sub in getattr(command, "commands", {}).items():
        yield from commands(sub, (*words, name))


ALL = list(commands(typer.main.get_command(app)))


def shown(*words: str) -> str:
    result = CliRunner().invoke(app, [*words, "--help"], env={"COLUMNS": str(WIDTH), "TERM": "dumb"})
    assert result.exit_code == 0
    return click.unstyle(result.output)


@pytest.mark.parametrize(("words", "command"), ALL, ids=[" ".join(words) or "precall" for words, _ in ALL])
def test_every_command_has_a_one_line_summary(words: tuple[str, ...], command: Any) -> None:
    summary, *details = command.help.split("\n\n")
    assert summary.endswith(".")
    assert not any("\n" in paragraph for paragraph in (summary, *details))
    if words:
        assert len(summary) <= WIDTH - 15, "does not fit into one line of a list of commands"
    text = shown(*words)
    assert "<bool>" not in text
    assert all(len(line) <= WIDTH for line in text.splitlines())


@pytest.mark.parametrize(("words", "command"), ALL, ids=[" ".join(words) or "precall" for words, _ in ALL])
def test_every_option_has_a_help_text(words: tuple[str, ...], command: Any) -> None:
    for param in command.params:
        assert param.hidden or param.help, (words, param.name)


def test_the_name_of_a_section_is_shown() -> None:
    assert "([source])" in shown()
    assert "([source])" in shown("source")


def test_labels_have_one_spelling() -> None:
    for words in (("bindings", "add"), ("bindings", "list"), ("bindings", "export")):
        assert "KEY=VALUE" in shown(*words)
        assert "KEY:VALUE" not in shown(*words)


def test_no_duration_option_is_called_since() -> None:
    assert "--within" in shown("report")
    assert "--since" not in shown("report")


def test_every_command_has_examples() -> None:
    assert {" ".join(words) for words, command in ALL if not hasattr(command, "commands")} == EXAMPLES.keys()


@pytest.mark.parametrize(
    ("name", "line"), [(name, line) for name, lines in EXAMPLES.items() for line in lines]
)
def test_examples_are_shown_and_parse(name: str, line: str) -> None:
    words = name.split()
    assert line in " ".join(shown(*words).partition("Examples:")[2].split())
    program, *given = shlex.split(line)
    assert [program, *given[: len(words)]] == ["precall", *words]
    [command] = [one for found, one in ALL if found == tuple(words)]
    command.make_context(name, given[len(words) :])


def test_brackets_are_shown_as_they_are_written() -> None:
    small = typer.Typer(help="About [source].")

    @small.command()
    def work(option: str = typer.Option("", help="As [api.tokens] has it, one of [1, 2].")) -> None:
        """Read [policy] of a file."""

    @small.command()
    def other() -> None:
        """Do nothing."""

    tidy(small)
    help_of = [CliRunner().invoke(small, [*words, "--help"]).output for words in ((), ("work",))]
    text = " ".join(" ".join(help_of).split())
    for written in ("About [source].", "Read [policy] of a file.", "[api.tokens]", "[1, 2]"):
        assert written in text
