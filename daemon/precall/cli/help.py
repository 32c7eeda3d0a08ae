"""What Typer shows for `--help`: docstrings without their line breaks, and flags without a type."""

from inspect import getdoc
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup, TyperOption


class _Flags:
    """A command whose flags show no metavar: `--json`, not `--json <bool>`."""

    def get_params(self, ctx: Any) -> list[Any]:
        """As the base class."""
        params: list[Any] = super().get_params(ctx)  # type: ignore[misc]
        for param in params:
            if isinstance(param, TyperOption) and param.is_flag and param.metavar is None:
                param.metavar = ""
        return params


class _Command(_Flags, TyperCommand):
    pass


class _Group(_Flags, TyperGroup):
    pass


def tidy(app: typer.Typer) -> None:
    """Give all commands of `app`, and of the apps in it, help texts that wrap by themselves. Call it once."""
    app.info.cls = _Group
    for command in app.registered_commands:
        command.cls = _Command
        command.help = _unwrapped(getdoc(command.callback) or "")
    for group in app.registered_groups:
        group.cls = _Group
        if group.typer_instance is not None:
            tidy(group.typer_instance)


def _unwrapped(text: str) -> str:
    """Join the lines of each paragraph."""
    return "\n\n".join(paragraph.replace("\n", " ") for paragraph in text.split("\n\n"))
