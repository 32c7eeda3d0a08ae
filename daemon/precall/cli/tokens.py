"""Tokens for the HTTP API: token new."""

import hashlib
import json
import secrets
from dataclasses import dataclass, field
from typing import Annotated

import typer

from precall.cli.options import JsonObject
from precall.cli.output import data, say
from precall.config.schema import SCOPES

app = typer.Typer(no_args_is_help=True, help="Create tokens for the HTTP API.")


@dataclass(frozen=True, slots=True)
class NewToken:
    """A token, and the entry of the configuration that admits it."""

    name: str
    scopes: list[str]
    secret: str = field(default_factory=lambda: secrets.token_urlsafe(32), repr=False)

    @property
    def entry(self) -> dict[str, object]:
        """Return the entry's keys and values."""
        digest = hashlib.sha256(self.secret.encode()).hexdigest()
        return {"name": self.name, "scopes": list(dict.fromkeys(self.scopes)), "sha256": digest}

    @property
    def table(self) -> str:
        """Return the entry in TOML."""
        lines = (f"{key} = {json.dumps(value)}" for key, value in self.entry.items())
        return "\n".join(["[[api.tokens]]", *lines])


@app.command("new")
def token_new(
    *,
    name: Annotated[str, typer.Option(help="The name of its holder, for audits and logs.")],
    scope: Annotated[list[str], typer.Option(help=f"What it permits; may be repeated: {', '.join(SCOPES)}.")],
    as_json: JsonObject = False,
) -> None:
    """Create a token and print it once.

    Prints the lines of configuration that admit it as well.
    """
    for wanted in scope:
        if wanted not in SCOPES:
            raise typer.BadParameter(f"{wanted} is not a scope; there are {', '.join(SCOPES)}")
    token = NewToken(name, scope)
    if as_json:
        data({"token": token.secret} | token.entry)
        return
    typer.echo(f"token: {token.secret}")
    say("It is not stored anywhere: give it to its holder now. For the configuration:\n")
    typer.echo(token.table)
