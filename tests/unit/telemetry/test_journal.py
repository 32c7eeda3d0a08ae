"""Lines for the journal begin with their priority, and lines for anything else do not."""

import io
import json
import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TextIO

import pytest

from precall.telemetry import logging as log
from precall.telemetry.journal import is_journal, prefixed


def journal_stream(stream: TextIO) -> str:
    status = os.fstat(stream.fileno())
    return f"{status.st_dev}:{status.st_ino}"


@pytest.fixture
def lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., list[str]]]:
    """What is written by an error and an event, with `JOURNAL_STREAM` as that of a file or as given."""

    def written(form: str, variable: str | None = None) -> list[str]:
        with (tmp_path / "err").open("w+", encoding="utf-8") as stream:
            monkeypatch.setenv("JOURNAL_STREAM", journal_stream(stream) if variable is None else variable)
            log.configure("debug", form, stream)  # type: ignore[arg-type]
            logger = log.get_logger("precall.anybody")
            for level in ("debug", "info", "warning", "error", "critical"):
                getattr(logger, level)("it.happened")
            try:
                raise ValueError("odd")
            except ValueError:
                logging.getLogger("somebody").exception("broken")
            stream.seek(0)
            return stream.read().splitlines()

    yield written
    monkeypatch.undo()
    log.configure("info")


def test_lines_of_text_begin_with_their_priority_tracebacks_too(lines: Callable[..., list[str]]) -> None:
    found = lines("text")
    assert [line[:3] for line in found[:5]] == ["<7>", "<6>", "<4>", "<3>", "<2>"]
    assert "Traceback" in "".join(found)
    assert all(line.startswith("<3>") for line in found[5:])


def test_lines_of_json_are_json_behind_it(lines: Callable[..., list[str]]) -> None:
    found = lines("json")
    assert [json.loads(line[3:])["level"] for line in found[:5]] == [
        "debug",
        "info",
        "warning",
        "error",
        "critical",
    ]
    assert found[5].startswith('<3>{"')


@pytest.mark.parametrize("variable", ["", "0:0", "8:12345678", "nonsense"])
@pytest.mark.parametrize("form", ["text", "json"])
def test_a_stream_that_is_not_the_journal_has_no_prefix(
    lines: Callable[..., list[str]], form: str, variable: str
) -> None:
    assert not any(line.startswith("<") for line in lines(form, variable))


def test_a_record_that_cannot_be_formatted_is_an_error_to_the_journal(
    lines: Callable[..., list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (tmp_path / "other").open("w+", encoding="utf-8") as stream:
        monkeypatch.setenv("JOURNAL_STREAM", journal_stream(stream))
        log.configure("debug", "json", stream)
        logging.getLogger("somebody").info("%d", "no number")
        stream.seek(0)
        line = stream.read()
    assert line.startswith("<3>{")
    assert json.loads(line[3:])["event"] == "log.unshown"


def test_a_stream_without_a_descriptor_is_not_the_journal(tmp_path: Path) -> None:
    assert not is_journal(io.StringIO(), {"JOURNAL_STREAM": "0:0"})
    closed = (tmp_path / "closed").open("w", encoding="utf-8")
    closed.close()
    assert not is_journal(closed, {"JOURNAL_STREAM": "0:0"})


def test_levels_in_between_count_as_the_lower_one() -> None:
    assert prefixed("a\nb", logging.ERROR + 5) == "<3>a\n<3>b"
    assert prefixed("", logging.DEBUG - 5) == "<7>"
