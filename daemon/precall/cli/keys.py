"""The keys that seal numbers in the database: made, and brought into use. No daemon is needed; one may be running."""

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

app = typer.Typer(no_args_is_help=True, help="Keys that seal the numbers in the database: new, rotate.")


@app.command("new")
def new(
    config: ConfigFile = None,
    *,
    file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Without: store.number_key_file of the configuration.")
    ] = None,
) -> None:
    """Make a key file, or add a key to it. The newest key seals, all open; keep a copy of the file."""
    target = file or _file(load(config))
    there = target.exists()
    name = _add(target)
    typer.echo(f"key {name} {'added to' if there else 'made in'} {target}")
    if not there:
        say(
            "Copy this file to a safe place, apart from the database: without it the numbers are lost. Then set"
        )
        say(f'  [store]\n  number_key_file = "{target}"')
        say("restart precall, and seal what lies there in plain: precall keys rotate")


@app.command("rotate")
def rotate(config: ConfigFile = None) -> None:
    """Seal every number with the newest key, with a new one when all are sealed with that already. A daemon may be
    running; killed or not, run it again to go on. It says when an earlier key is needed no more."""
    from precall.store import Cipher, KeyRotation, RotationReport  # noqa: PLC0415 - see serving

    loaded = load(config)
    file = _file(loaded)
    url = loaded.store.database

    async def work() -> tuple[str, RotationReport]:
        if not await KeyRotation(url, Cipher.of(file)).due():
            say(f"all is sealed with the newest key: key {_add(file)} made")
        seals = Cipher.of(file)
        with Progress(
            TextColumn("sealing"),
            BarColumn(),
            TaskProgressColumn(),
            TimeRemainingColumn(),
            console=Console(stderr=True),
        ) as progress:
            task = progress.add_task("")
            rotated = await KeyRotation(url, seals).run(
                lambda done, total: progress.update(task, completed=done, total=total)
            )
        return seals.newest, rotated

    newest, rotated = asyncio.run(work())
    typer.echo(f"{rotated.rows:,} rows sealed with key {newest}, {rotated.plain:,} of them were in plain")
    idle = sorted({*rotated.idle, *Cipher.of(file).names} - {newest})
    if idle:
        typer.echo(f"nothing needs {', '.join(idle)} any more: remove that line from {file}")
        say("Copies of the database made before still need it: keep a copy of the key file as long as those.")
    if rotated.plain:
        say("Copies of the database made before hold plain numbers: destroy them.")


def _file(config: Config) -> Path:
    found = config.store.key_file
    if found is None:
        raise ConfigError(["store.number_key_file: is not set: name the file, or give --file"])
    return found


def _add(file: Path) -> str:
    from precall.store import cipher  # noqa: PLC0415 - see serving

    return cipher.add(file, secrets.token_bytes(cipher.LENGTH))
