"""Notifications of what is wrong: notify test."""

import asyncio
import socket

import typer

from precall.cli import output
from precall.cli.options import ConfigFile, Json
from precall.config.schema import load
from precall.core.errors import ConfigError, OutOfReach
from precall.core.status.messages import trial

app = typer.Typer(no_args_is_help=True, help="Tell people what is wrong ([notify]).")


@app.command("test")
def try_targets(config: ConfigFile = None, *, as_json: Json = False) -> None:
    """Send a test message to every target of the configuration.

    Needs no daemon. Exit 4: a target did not take it.
    """
    from precall.engine.notifier import TargetDelivery  # noqa: PLC0415 - other commands start without it
    from precall.engine.notify_targets import configured_targets  # noqa: PLC0415

    notify = load(config).notify
    targets = configured_targets(notify)
    if not targets:
        raise ConfigError(["notify.urls: is empty, and so is notify.urls_file: there is nobody to notify"])
    message = trial(socket.gethostname(), notify.lang)

    async def work() -> list[str]:
        return await asyncio.gather(*(TargetDelivery(target).send(message) for target in targets))

    results = dict(zip((target.name for target in targets), asyncio.run(work()), strict=True))
    if as_json:
        output.data({"targets": [{"target": name, "error": why} for name, why in results.items()]})
    else:
        for name, why in results.items():
            typer.echo(f"{name}: {why or 'sent'}")
    if failed := [name for name, why in results.items() if why]:
        raise OutOfReach(f"not delivered: {', '.join(failed)}")
