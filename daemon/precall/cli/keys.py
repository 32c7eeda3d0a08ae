"""The keys that seal numbers in the database: keys new, keys rotate. A daemon may be running, but is not needed."""

import asyncio
import secrets
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from precall.cli.options import ConfigFile
from precall.cli.output import say
from precall.config.schema import Config, load
from precall.core.errors import ConfigError

app = typer.Typer(no_args_is_help=True, help="Manage the keys that seal numbers in the database.")


@app.command("new")
def new(
    config: ConfigFile = None,
    *,
    file: Annotated[Path | None, typer.Option(metavar="FILE", help="Default: store.number_key_file.")] = None,
) -> None:
    """Create a key file, or add a key to it.

    The newest key seals, and every key opens. Keep a copy of the file.
    """
    target = file or _file(load(config))
    there = target.exists()
    name = _add(target)
    typer.echo(f"key {name} {'added to' if there else 'made in'} {target}")
    if not there:
        say(
            "Copy this file to a safe place, apart from the database: without it the numbers are lost. Then set"
        )
        say(f'  [store]\n  number_key_file = "{target}"')
        say("restart precall, and seal the numbers that are stored in plain: precall keys rotate")


@app.command("rotate")
def rotate(config: ConfigFile = None) -> None:
    """Seal every number with the newest key.

    Creates a new key if all numbers are sealed with the newest one already. A daemon may be running. An interrupted
    rotation continues when it is run again. Says when an earlier key is no longer needed.
    """
    from precall.store import Cipher, KeyRotation, RotationReport  # noqa: PLC0415 - see serving

    loaded = load(config)
    file = _file(loaded)
    url = loaded.store.database

    async def work() -> tuple[str, RotationReport]:
        if not await KeyRotation(url, Cipher.of(file)).due():
            say(f"everything is sealed with the newest key: created key {_add(file)}")
        cipher = Cipher.of(file)
        with Progress(
            TextColumn("sealing"),
            BarColumn(),
            TaskProgressColumn(),
            TimeRemainingColumn(),
            console=Console(stderr=True),
        ) as progress:
            task = progress.add_task("")
            rotated = await KeyRotation(url, cipher).run(
                lambda done, total: progress.update(task, completed=done, total=total)
            )
        return cipher.newest, rotated

    newest, rotated = asyncio.run(work())
    typer.echo(f"{rotated.rows:,} rows sealed with key {newest}, of which {rotated.plain:,} were in plain")
    idle = sorted({*rotated.idle, *Cipher.of(file).names} - {newest})
    if idle:
        typer.echo(f"nothing needs {', '.join(idle)} any more: remove that line from {file}")
        say("Earlier copies of the database still need it: keep a copy of the key file as long as those.")
    if rotated.plain:
        say("Earlier copies of the database hold plain numbers: destroy them.")


def _file(config: Config) -> Path:
    found = config.store.key_file
    if found is None:
        raise ConfigError(["store.number_key_file: is not set: set it, or give --file"])
    return found


def _add(file: Path) -> str:
    from precall.store import cipher  # noqa: PLC0415 - see serving

    return cipher.add(file, secrets.token_bytes(cipher.LENGTH))
