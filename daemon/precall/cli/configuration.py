"""The configuration: config check, show, example, reload."""

import json
import re
import time
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import SecretStr

from precall.cli.options import ConfigFile, Json
from precall.cli.output import data, say
from precall.cli.session import Session, answered
from precall.cli.target import Target, asks
from precall.config import durations, packaged
from precall.config.origins import load_parts, origins
from precall.config.schema import Config, Token, keys, load, remarks
from precall.config.settings import compare
from precall.core.errors import ConfigError

app = typer.Typer(no_args_is_help=True, help="Check, show or reload the configuration.")

BAD = 3
"""The exit code of a configuration with mistakes, as `precall run` ends with one."""


@app.command("check")
def check(
    *,
    config: ConfigFile = None,
    against: Annotated[
        Path | None,
        typer.Option(metavar="OLD", help="An earlier file: also show what differs and what needs a restart."),
    ] = None,
) -> None:
    """Check the configuration, and all it names, without the network.

    Looks at the file, PRECALL_ variables, secrets, certificates, keys, ports and drivers. Lists all mistakes at once.
    Exit 3: there are some.
    """
    from precall.cli.config_check import unusable  # noqa: PLC0415 - see serving

    loaded, mistakes = load_parts(config)
    more, unchecked = unusable(loaded, time.time())
    mistakes += more
    try:
        found = None if against is None or mistakes else compare(load(against), loaded)
    except ConfigError as error:
        mistakes += error.mistakes
    for mistake in mistakes:
        typer.echo(mistake)
    if mistakes:
        raise typer.Exit(BAD)
    for remark in (*remarks(loaded), *unchecked):
        say(f"note: {remark}")
    typer.echo(f"{config or 'defaults and environment'}: ok")
    for one in () if found is None else (*found.changed, *found.needs_restart):
        typer.echo(str(one))


@app.command("show")
def show(config: ConfigFile = None) -> None:
    """Show every key with its value and where that comes from.

    Each line is `key = value  # file NAME`, the name of a variable, or `default`. Secrets are masked.
    """
    loaded, where = load(config), origins(config)
    lines = [f"{key} = {shown(loaded, *key.split('.'))}  # {where[key]}" for key in keys()]
    for line in lines:
        typer.echo(line)


@app.command("example")
def example() -> None:
    """Print every key with its default and a comment.

    Copy the ones you change.
    """
    typer.echo(packaged.text("config.example.toml"), nl=False)


def shown(config: Config, section: str, name: str) -> str:
    """Return the value of a key in TOML, without secrets."""
    part = getattr(config, section)
    value: Any = getattr(part, name)
    match (section, name):
        case "provider", "burst":
            value = config.provider.calls_at_once
        case "store", "auto_migrate":
            value = config.store.migrates
        case ("store", "url") | ("provider", "proxy"):
            value = re.sub(r"(?i)(pass\w*=)[^&]*", rf"\1{_MASK}", re.sub(r"//.*@", f"//{_MASK}@", value))
        case ("source", "query") | ("api", "receipts_secret_sha256"):
            value = SecretStr(value)
    if durations.is_duration(type(part).model_fields[name].metadata):
        return f'"{durations.text(value)}"'
    return _toml(value)


_MASK = "***"


def _toml(value: Any) -> str:
    match value:
        case SecretStr():
            return f'"{_MASK if value.get_secret_value() else ""}"'
        case Token():
            entry: dict[str, Any] = {
                "name": value.name,
                "scopes": value.scopes,
                "sha256": f"{value.sha256[:8]}{_MASK}",
            }
            entry |= {} if value.rate is None else {"rate": value.rate}
            return f"{{ {', '.join(f'{key} = {_toml(one)}' for key, one in entry.items())} }}"
        case list():
            return f"[{', '.join(map(_toml, value))}]"
        case bool():
            return str(value).lower()
        case int() | float():
            return f"{value:.15g}"
        case _:
            return json.dumps(str(value), ensure_ascii=False)


@app.command("reload")
@asks
def reload(*, daemon: Target, as_json: Json = False) -> None:
    """Make a running daemon reload its configuration.

    Exit 1: the file has mistakes, and nothing changes.
    """
    with Session(daemon) as session:
        answer = session.request("POST", "/-/reload")
    content = answer.content
    if answer.status == 422:
        for mistake in content.get("errors", [content]):
            typer.echo(f"{mistake.get('field', '')}: {mistake['detail']}".removeprefix(": "))
        raise typer.Exit(1)
    found = answered(answer)
    if as_json:
        data(found)
        return
    for one in found["changed"]:
        typer.echo(f"{one['key']}: {one['before']} -> {one['after']}")
    for one in found["needs_restart"]:
        typer.echo(f"{one['key']}: {one['before']} -> {one['after']}; needs a restart")
    if not found["changed"] and not found["needs_restart"]:
        typer.echo("nothing has changed")
