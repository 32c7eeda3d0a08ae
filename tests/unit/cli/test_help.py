"""`--help` of every command: a one-line summary, wrapped texts, and flags without a type."""

from collections.abc import Iterator
from typing import Any

import click
import pytest
import typer
from typer.testing import CliRunner

from precall.cli import app

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
