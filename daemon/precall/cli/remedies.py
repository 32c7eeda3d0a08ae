"""Commands that precall recommends, completed by the options that the user gave, so that they can be pasted."""

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import typer

_QUOTED = re.compile(r"`(precall [^`]+)`")


@dataclass(frozen=True, slots=True)
class GivenOptions:
    """The `words` of options named `names` that were typed, and the program whose commands may take them."""

    names: frozenset[str] = frozenset()
    words: tuple[str, ...] = ()
    program: Any = field(default=None, repr=False)

    def into(self, text: str) -> str:
        """Return a remedy with these options in its command, and in commands in backquotes, where they take them."""
        if not self.words:
            return text
        text = _QUOTED.sub(lambda found: f"`{self._completed(found[1])}`", text)
        command, gap, comment = text.partition("  # ")
        return f"{self._completed(command)}{gap}{comment}"

    def _completed(self, command: str) -> str:
        try:
            program, *words = shlex.split(command)
        except ValueError:
            return command
        if program != "precall" or not self._are_taken_by(words):
            return command
        return f"{command} {shlex.join(self.words)}"

    def _are_taken_by(self, words: Sequence[str]) -> bool:
        found = self.program
        for word in words:
            commands = getattr(found, "commands", None)
            if commands is None:
                break
            found = commands.get(word)
        return any(option.name in self.names for option in getattr(found, "params", ()))


NOTHING_GIVEN = GivenOptions()


def given(context: typer.Context, options: Mapping[str, object]) -> GivenOptions:
    """Return those of `options` (name of the parameter, value) that stand on the command line."""
    typed: list[str] = []
    for name, value in options.items():
        source = context.get_parameter_source(name)
        if source is not None and source.name == "COMMANDLINE":
            typed += (f"--{name.replace('_', '-')}", str(value))
    return GivenOptions(frozenset(options), tuple(typed), context.find_root().command)
