"""Standard error of a daemon: neither a full disk nor a reader that has stopped reading hinders it."""

import json
import logging
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from precall.telemetry import logging as log
from precall.telemetry.log_stream import LogStream


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    read, write = os.pipe()
    yield read, write
    for descriptor in (read, write):
        try:
            os.close(descriptor)
        except OSError:
            continue


def all_of(read: int, size: int) -> bytes:
    found = b""
    while len(found) < size:
        found += os.read(read, size - len(found))
    return found


def test_lines_arrive_at_once(pipe: tuple[int, int]) -> None:
    stream = LogStream(pipe[1])
    assert stream.write("one\n") == 4
    assert os.read(pipe[0], 100) == b"one\n"
    assert (stream.isatty(), stream.writable(), stream.fileno()) == (False, True, pipe[1])


def test_a_stalled_reader_does_not_block_and_lines_are_buffered(
    pipe: tuple[int, int],
) -> None:
    stream = LogStream(pipe[1])
    lines = [f"{n:04} {'x' * n}\n" for n in range(0, 6000, 10)]
    for line in lines:
        stream.write(line)
    wanted = "".join(lines).encode()
    assert len(wanted) > 1_000_000, "more than a pipe takes"
    assert all_of(pipe[0], len(wanted)) == wanted
    stream.finish(30.0)
    stream.write("after\n")
    assert os.read(pipe[0], 100) == b"after\n"
    assert stream.lost == 0


def test_lines_beyond_the_buffer_are_counted(pipe: tuple[int, int]) -> None:
    stream = LogStream(pipe[1], most=1000)
    for _ in range(100_000 // 100 + 20):
        stream.write("x" * 99 + "\n")
    assert stream.lost > 0
    kept = (100_000 // 100 + 20) - stream.lost
    got = all_of(pipe[0], kept * 100)
    assert got == (b"x" * 99 + b"\n") * kept


def test_a_closed_reader_is_not_an_error(pipe: tuple[int, int]) -> None:
    stream = LogStream(pipe[1])
    os.close(pipe[0])
    stream.write("one\n")
    stream.write("two\n")
    assert stream.lost == 2


def test_a_full_disk_is_not_an_error() -> None:
    with Path("/dev/full").open("w") as full:
        stream = LogStream(full.fileno())
        stream.write("one\n")
        assert stream.lost == 1


def test_surrogates_are_escaped(pipe: tuple[int, int]) -> None:
    LogStream(pipe[1]).write("\udc80 é\n")
    assert os.read(pipe[0], 100) == "\\udc80 é\n".encode()


# -- every line is JSON ------------------------------------------------------------------------------


@contextmanager
def in_json(descriptor: int) -> Iterator[None]:
    """Standard error is this descriptor, and the format JSON.

    (No fixture: pytest puts its own standard error up between a fixture and its test.)
    """
    places = ((sys, "stderr"), (sys, "excepthook"), (sys, "unraisablehook"), (threading, "excepthook"))
    before = [getattr(place, name) for place, name in places]
    log.take_over(descriptor)
    log.configure("info", "json")
    try:
        yield
    finally:
        for (place, name), value in zip(places, before, strict=True):
            setattr(place, name, value)
        log.configure("info")


def lines(pipe: tuple[int, int]) -> list[dict[str, str]]:
    return [json.loads(line) for line in os.read(pipe[0], 60_000).splitlines()]


def test_whatever_is_printed_becomes_an_event(pipe: tuple[int, int]) -> None:
    with in_json(pipe[1]):
        assert log.is_json()
        sys.stderr.write("by a library\n")
        sys.stderr.write("in ")
        sys.stderr.write("parts to 13800138000\n\n")
        assert [one["event"] for one in lines(pipe)] == ["by a library", "in parts to ***"]


def test_uncaught_errors_are_events(pipe: tuple[int, int]) -> None:
    with in_json(pipe[1]):

        class Broken:
            def __del__(self) -> None:
                raise ValueError("13800138000")

        def crash() -> None:
            raise ValueError("13800138000")

        thread = threading.Thread(target=crash, name="worker")
        thread.start()
        thread.join()
        Broken()
        try:
            crash()
        except ValueError as error:
            sys.excepthook(ValueError, error, error.__traceback__)
        result = lines(pipe)
        assert [one["event"] for one in result] == ["thread.broken", "process.unraisable", "process.uncaught"]
        assert all("ValueError: ***" in one["exception"] for one in result)


def test_a_record_that_cannot_be_shown_is_named(pipe: tuple[int, int]) -> None:
    with in_json(pipe[1]):
        logging.getLogger("library").error("%d", "no number")
        [result] = lines(pipe)
        assert (result["event"], result["of"], result["error"]) == ("log.unshown", "library", "TypeError")


def test_a_reload_changes_the_format_both_ways(pipe: tuple[int, int]) -> None:
    with in_json(pipe[1]):
        log.configure("info", "text")
        assert not log.is_json()
        sys.stderr.write("plain\n")
        assert os.read(pipe[0], 100) == b"plain\n"
        log.configure("info", "json")
        sys.stderr.write("plain\n")
        assert lines(pipe)[0]["event"] == "plain"
