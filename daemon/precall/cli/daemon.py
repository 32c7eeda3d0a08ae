"""Commands that serve or prepare serving: run, demo, simulate, migrate.

They run on uvloop where it exists. A signal ends them with exit code 0; `run` drains first. Each command imports the
daemon, the store or the simulator itself, so that a client of a running daemon does not wait a second for them.
"""

import asyncio
import os
import shlex
import shutil
import signal
import sys
import time
from collections.abc import Callable, Coroutine
from functools import partial
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from precall.cli.options import ConfigFile, address, duration
from precall.cli.output import console, say
from precall.config.schema import load, log_format, remarks
from precall.telemetry import logging as log

PANEL = "The daemon itself"
app = typer.Typer()

T = TypeVar("T")


@app.command(rich_help_panel=PANEL)
def demo(
    *,
    length: Annotated[
        str | None, typer.Option("--for", metavar="DURATION", help="Stop after this time, such as 30s.")
    ] = None,
    folder: Annotated[
        Path | None,
        typer.Option("--dir", metavar="DIR", help="Keep the database here. Default: it is temporary."),
    ] = None,
    port: Annotated[
        int | None, typer.Option(min=0, max=65_535, help="Port of the API. Default: 8080, or any free one.")
    ] = None,
) -> None:
    """Show precall at work, with nothing to configure.

    Runs a simulated provider, the daemon, and a dispatcher that asks and dials.
    """
    if folder is not None and not folder.is_dir():
        raise typer.BadParameter(f"{folder} is not a directory")
    from precall.cli.calls import show_report  # noqa: PLC0415
    from precall.cli.demo import DemoSettings, play  # noqa: PLC0415
    from precall.cli.demo_view import Lines, Panel, summary  # noqa: PLC0415

    settings = DemoSettings(
        seconds=duration(length),
        folder=folder,
        port=port,
        clock=time.time,
        monotonic=time.monotonic,
        stop_signal=stop_signal,
    )
    out = console()
    with Panel(out) if out.is_terminal and not out.is_dumb_terminal else Lines(out) as stage:
        log.configure("error")  # within, since a panel takes over standard error
        log.leave_out("exposure_brake.engaged")  # part of the show: calls that are held name it as the reason
        tally = _serve(play(settings, stage))
    log.configure("warning")
    typer.echo("\nWhat precall learned of these calls by itself, as `precall report` shows it:\n")
    show_report(tally.report)
    typer.echo("")
    for line in summary(
        tally, _as_typed(sys.argv[0]), out.width if out.is_terminal else None
    ):  # last, so that a small screen shows it
        out.print(line)


def _as_typed(program: str) -> str:
    """Return what starts precall in the shell of the user. `program` is `sys.argv[0]`."""
    if shutil.which("precall"):
        return "precall"
    if Path(program).name == "__main__.py":
        return f"{shlex.quote(sys.executable)} -m precall"
    return shlex.quote(os.path.relpath(program))


@app.command(rich_help_panel=PANEL)
def run(config: ConfigFile = None) -> None:
    """Run the daemon.

    SIGTERM or SIGINT stops it once requests in progress have ended, a second one at once. SIGHUP reloads the
    configuration. Exit 5: another daemon now leads on this database; start this one again and it stands by.
    """
    from precall.runtime.daemon import Daemon  # noqa: PLC0415
    from precall.runtime.systemd import SystemdNotifier  # noqa: PLC0415

    log.take_over()
    supervisor = SystemdNotifier.of(os.environ, time.monotonic)
    log.configure("warning", log_format(config))
    loaded = load(config)
    log.configure(loaded.log.level, loaded.log.format)
    for remark in remarks(loaded):
        log.get_logger(__name__).warning("config.remark", what=remark)

    async def work() -> None:
        daemon = Daemon(loaded, read=partial(load, config), supervisor=supervisor)
        await daemon.serve(_announce)

    _serve(work())


def _announce(urls: list[str]) -> None:
    if log.is_json():
        log.get_logger("precall").info("precall.serves", urls=urls)
    else:
        say(f"precall serves {'  '.join(urls)}")


@app.command(rich_help_panel=PANEL)
def migrate(config: ConfigFile = None) -> None:
    """Upgrade the database schema to this version."""
    from precall.store import current, head, upgrade  # noqa: PLC0415

    log.take_over()
    log.configure("warning", log_format(config))
    url = load(config).store.database

    async def work() -> tuple[str, str]:
        before = await current(url)
        await upgrade(url)
        return before, head()

    before, after = asyncio.run(work())
    typer.echo(f"schema {after}, unchanged" if before == after else f"schema {before or 'none'} -> {after}")


@app.command(rich_help_panel=PANEL)
def simulate(
    *,
    listen: Annotated[
        str, typer.Option(metavar="HOST:PORT", help="Address to listen on; port 0 is any free one.")
    ] = "127.0.0.1:8089",
    scenario: Annotated[Path | None, typer.Option(metavar="FILE", help="What happens, as TOML.")] = None,
    bindings: Annotated[
        int | None,
        typer.Option(min=1, max=10_000_000, help="How many bindings without a scenario. Default: 300."),
    ] = None,
    like: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Reply as a transcript of `doctor --contact` has it."),
    ] = None,
    export: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write the bindings here, for `bindings import`."),
    ] = None,
    speed: Annotated[float, typer.Option(min=0.001, max=100_000, help="Scenario seconds per second.")] = 1.0,
) -> None:
    """Run the provider simulator alone.

    Point provider.endpoint at it.
    """
    if sum(one is not None for one in (scenario, bindings, like)) > 1:
        raise typer.BadParameter("give only one of --scenario, --bindings and --like")
    from precall.cli.simulator import recorded, scene, simulating  # noqa: PLC0415

    what = recorded(like) if like is not None else scene(scenario, bindings)
    _serve(simulating(what, *address(listen), export, speed, stop_signal))


def stop_signal() -> asyncio.Event:
    """Return an event that SIGINT or SIGTERM sets."""
    stopped, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopped.set)
    return stopped


def _serve(work: Coroutine[Any, Any, T]) -> T:
    factory: Callable[[], asyncio.AbstractEventLoop] | None = None
    if sys.platform != "win32":
        import uvloop  # noqa: PLC0415 - not made for Windows

        factory = uvloop.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        return runner.run(work)
