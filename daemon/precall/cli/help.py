"""What Typer shows for `--help`: docstrings without their line breaks, examples, and flags without a type."""

import re
from inspect import getdoc
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup, TyperOption
from typer.main import get_command_name

from precall.cli.examples import EXAMPLES

_MARKUP = re.compile(r"(?<!\\)\[(?=[a-z#/@])")
"""The beginning of what Rich would take for markup and leave out, such as a section of the configuration."""


class _Flags:
    """A command whose flags show no metavar: `--json`, not `--json <bool>`. Brackets in its texts are shown."""

    def get_params(self, ctx: Any) -> list[Any]:
        """As the base class."""
        params: list[Any] = super().get_params(ctx)  # type: ignore[misc]
        for param in params:
            if isinstance(param, TyperOption) and param.is_flag and param.metavar is None:
                param.metavar = ""
            if text := getattr(param, "help", None):
                param.help = _as_written(text)
        return params


class _Command(_Flags, TyperCommand):
    pass


class _Group(_Flags, TyperGroup):
    pass


def tidy(app: typer.Typer, words: tuple[str, ...] = ()) -> None:
    """Give all commands of `app`, and of the apps in it, help texts that wrap by themselves, and examples.

    Call it once. `words` are those that lead to `app`.
    """
    app.info.cls = _Group
    if isinstance(app.info.help, str):
        app.info.help = _as_written(app.info.help)
    for command in app.registered_commands:
        command.cls = _Command
        command.help = _as_written(_unwrapped(getdoc(command.callback) or ""))
        name = command.name or get_command_name(getattr(command.callback, "__name__", ""))
        if lines := EXAMPLES.get(" ".join((*words, name))):
            command.epilog = "\n  ".join(("Examples:", *map(_as_written, lines)))
    for group in app.registered_groups:
        group.cls = _Group
        if group.typer_instance is not None:
            tidy(group.typer_instance, (*words, group.name) if isinstance(group.name, str) else words)


def _as_written(text: str) -> str:
    """Return a text in which Rich finds no markup. What is escaped already stays so."""
    return _MARKUP.sub(r"\\[", text)


def _unwrapped(text: str) -> str:
    """Join the lines of each paragraph."""
    return "\n\n".join(paragraph.replace("\n", " ") for paragraph in text.split("\n\n"))
