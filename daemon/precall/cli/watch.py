"""Watch a running daemon: its state and the changes of its routes, also while it restarts."""

import asyncio
import re
import signal
import sys
import termios
import time
import tty
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http import HTTPStatus
from typing import Annotated, Any, Protocol

import typer

from precall.cli import output
from precall.cli.client import DaemonClient
from precall.cli.options import duration
from precall.cli.session import answered
from precall.cli.status import with_options
from precall.cli.target import Target, asks
from precall.cli.watch_view import WatchLines, WatchScreen
from precall.core.errors import OutOfReach, Refusal
from precall.core.status.texts import Language

LONGEST_POLL = 20.0
"""Seconds that one request waits for changes."""
SHORTEST = 0.2
_ID = re.compile(rb"^id: (\d+)$", re.MULTILINE)

app = typer.Typer()


class Watcher(Protocol):
    """Shows what is watched."""

    def state(self, status: Mapping[str, Any]) -> None: ...
    def changed(self, routes: Sequence[Mapping[str, Any]]) -> None: ...
    def lost(self, why: str) -> None: ...


@app.command(rich_help_panel="A running daemon")
@asks
def watch(
    *,
    interval: Annotated[
        str, typer.Option(metavar="DURATION", help="How often to look at the state, such as 500ms or 5s.")
    ] = "2s",
    lang: Annotated[Language, typer.Option(help="Language of the texts.", metavar="en|zh")] = Language.EN,
    daemon: Target,
) -> None:
    """Watch the state of the system and the changes of routes.

    Ends with q or Ctrl-C, and goes on while the daemon restarts. In a pipe, each change of state or route is a line.
    """
    every = duration(interval) or 0.0
    if every < SHORTEST:
        raise typer.BadParameter(f"--interval {interval}: should be at least {SHORTEST:g}s")
    console = output.console()
    screen = console.is_terminal and not console.is_dumb_terminal
    made = WatchScreen if screen else WatchLines
    with made(console, lang, time.time) as view, asyncio.Runner() as runner:
        runner.run(_until_ended(Watching(daemon, view, every, lang, time.monotonic)))


@dataclass(slots=True)
class Watching:
    """Asks `daemon` every `every` seconds, and shows the answers in `view`. `monotonic` is in seconds."""

    daemon: Target
    view: Watcher
    every: float
    language: Language
    monotonic: Callable[[], float]
    index: int | None = None
    seen: bool = False

    async def run(self) -> None:
        """Go on until cancelled. Raises OutOfReach if the daemon cannot be reached at first, Refusal if it refuses."""
        async with self.daemon.client() as client:
            while True:
                until = self.monotonic() + self.every
                try:
                    await self._look(client)
                    while (left := until - self.monotonic()) > 0:
                        await self._changes(client, left)
                except OutOfReach as error:
                    if not self.seen:
                        raise
                    self.view.lost(str(error))
                except Refusal as error:
                    if not self.seen or error.status != HTTPStatus.TOO_MANY_REQUESTS:
                        raise
                    self.view.lost(str(error))
                await asyncio.sleep(max(0.0, until - self.monotonic()))

    async def _look(self, client: DaemonClient) -> None:
        found = answered(await client.exchange("GET", "/v1/status", language=self.language))
        self.seen = True
        self.view.state(with_options(found, self.daemon))

    async def _changes(self, client: DaemonClient, seconds: float) -> None:
        """Wait up to `seconds` for changes, and show them."""
        if self.index is None:
            self.index = await _newest(client)
        params = {"since": str(self.index), "wait": f"{min(seconds, LONGEST_POLL):.3f}"}
        found = await client.exchange("GET", "/v1/routes/changes", params=params)
        if found.status == HTTPStatus.GONE:
            self.index = None  # another daemon, or too long ago: what lies between cannot be told
            return
        page = answered(found)
        self.index = page["index"]
        if page["changes"]:
            self.view.changed(page["changes"])


class _FoundError(Exception):
    """Ends a stream once its first index is known."""


async def _newest(client: DaemonClient) -> int:
    """Return the index of the newest change, with which a stream begins."""
    seen = bytearray()

    def take(part: bytes) -> None:
        seen.extend(part)
        if _ID.search(seen):
            raise _FoundError

    with suppress(_FoundError):
        answered(await client.download("/v1/routes/stream", take))
    found = _ID.search(seen)
    if found is None:
        raise OutOfReach("the stream of the daemon ended before it began")
    return int(found[1])


async def _until_ended(watching: Watching) -> None:
    """Watch until q is pressed, or SIGINT or SIGTERM comes."""
    loop, task, ended = asyncio.get_running_loop(), asyncio.current_task(), False

    def end() -> None:
        nonlocal ended
        ended = True
        if task is not None:
            task.cancel()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, end)
    try:
        with _pressed("q", loop, end):
            await watching.run()
    except asyncio.CancelledError:
        if not ended:
            raise


@contextmanager
def _pressed(key: str, loop: asyncio.AbstractEventLoop, then: Callable[[], None]) -> Iterator[None]:
    """Call `then` when the key is pressed, if the standard streams are a terminal."""
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        yield
        return
    descriptor = sys.stdin.fileno()
    earlier = termios.tcgetattr(descriptor)

    def read() -> None:
        if key in sys.stdin.read(1).lower():
            then()

    tty.setcbreak(descriptor)
    loop.add_reader(descriptor, read)
    try:
        yield
    finally:
        loop.remove_reader(descriptor)
        termios.tcsetattr(descriptor, termios.TCSADRAIN, earlier)
