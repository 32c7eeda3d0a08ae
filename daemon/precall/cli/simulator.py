"""Runs the provider simulator alone, until it is stopped: precall simulate."""

import asyncio
import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import typer

from precall.cli.demo import as_registered
from precall.cli.files import writing_text
from precall.cli.output import say
from precall.core.errors import ConfigError, ListenError
from precall.core.status.texts import singular
from precall.simulator import (
    Pool,
    Recording,
    Scenario,
    ScenarioError,
    Simulator,
    load_recording,
    load_scenario,
)
from precall.telemetry import logging as log

BINDINGS = 300


def scene(file: Path | None, bindings: int | None) -> Scenario:
    """Return the scenario of a file, or one pool of `bindings`. Raises ConfigError with all mistakes of the file."""
    if file is None:
        return Scenario(pools=(Pool(pool_key="FC1", bindings=bindings or BINDINGS),))
    try:
        return load_scenario(file)
    except ScenarioError as error:
        raise ConfigError([f"{file}: {mistake}" for mistake in error.mistakes]) from None


def recorded(file: Path) -> Recording:
    """Return the account of a transcript. Raises ConfigError with all mistakes of the file."""
    try:
        return load_recording(file, say)
    except ScenarioError as error:
        raise ConfigError([f"{file}: {mistake}" for mistake in error.mistakes]) from None


async def simulating(
    what: Scenario | Recording,
    host: str,
    port: int,
    export: Path | None,
    speed: float,
    stop_signal: Callable[[], asyncio.Event],
) -> None:
    """Serve until `stop_signal`. Raises ListenError, and OutputError if `export` cannot be written."""
    log.configure("warning")
    recording = what if isinstance(what, Recording) else None
    scenario = what.scenario() if isinstance(what, Recording) else what
    simulator, stopped = Simulator(scenario, speed=speed, recording=recording), stop_signal()
    known = simulator.bindings()
    if export is not None:
        _write(export, recording.registrations() if recording else map(as_registered, known))
    try:
        url = await simulator.start(host, port)
    except OSError as error:
        raise ListenError(f"{host}:{port} cannot be listened on: {error.strerror or error}") from error
    try:
        account = scenario.account
        typer.echo(f"provider simulator {url}  {singular(f'{len(known)} bindings')}")
        typer.echo(f"access key {account.access_key_id}, secret {account.access_key_secret}")
        typer.echo(f"admin {url}/_admin/stats")
        await stopped.wait()
    finally:
        await simulator.stop()


def _write(file: Path, bindings: Iterable[Mapping[str, Any]]) -> None:
    with writing_text(file) as out:
        for binding in bindings:
            out.write(json.dumps(binding) + "\n")
