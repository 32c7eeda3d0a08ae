"""Standard streams that are closed, full, broken or in another encoding, and logs that are JSON only."""

import json
import os
import signal
import subprocess
import sys
import urllib.request
from contextlib import suppress
from pathlib import Path

import pytest
from tests.acceptance.test_cli import ENVIRONMENT, PATIENCE, config_file, free_port, until

pytestmark = pytest.mark.slow  # each command is a process of its own

COMMAND = [sys.executable, "-m", "precall"]


def shell(line: str, *args: str | Path, **variables: str) -> subprocess.CompletedProcess[bytes]:
    """One command of a shell, where $@ is precall with these arguments."""
    return subprocess.run(
        ["bash", "-c", line, "bash", *COMMAND, *map(str, args)],
        env=ENVIRONMENT | variables,
        capture_output=True,
        timeout=240,
        check=False,
    )


def answers(url: str) -> bool:
    with suppress(OSError), urllib.request.urlopen(f"{url}/readyz", timeout=60) as response:
        return bool(response.status == 200)
    return False


@pytest.mark.parametrize("streams", ["<&- >&- 2>&-", "2>/dev/full"])
def test_a_daemon_runs_with_unusable_standard_streams(tmp_path: Path, streams: str) -> None:
    port = free_port()
    config = config_file(tmp_path, "http://127.0.0.1:9", listen=f"127.0.0.1:{port}")
    process = subprocess.Popen(
        ["bash", "-c", f'exec "$@" {streams}', "bash", *COMMAND, "run", "--config", config], env=ENVIRONMENT
    )
    try:
        until(lambda: answers(f"http://127.0.0.1:{port}"))
        used = [Path(f"/proc/{process.pid}/fd/{number}").readlink() for number in range(3)]
        if "<&-" in streams:
            assert used == [Path(os.devnull)] * 3
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 0
    finally:
        process.kill()
        process.wait()


def test_every_line_of_a_daemon_is_json_from_start_to_end(tmp_path: Path) -> None:
    port = free_port()
    config = config_file(tmp_path, "http://127.0.0.1:9", listen=f"127.0.0.1:{port}")
    config.write_text(config.read_text().replace("[log]", '[log]\nformat = "json"'))
    told = tmp_path / "told"
    with told.open("wb") as err:
        process = subprocess.Popen([*COMMAND, "run", "--config", config], stderr=err, env=ENVIRONMENT)
        try:
            until(lambda: b"precall.serves" in told.read_bytes())
            second = shell('"$@"', "run", "--config", config)
            process.send_signal(signal.SIGTERM)
            assert process.wait(PATIENCE) == 0
        finally:
            process.kill()
            process.wait()
    events = [json.loads(line)["event"] for line in told.read_text().splitlines()]
    assert {"precall.started", "precall.serves", "precall.stopped"} <= set(events)
    assert second.returncode == 3
    *_, last = [json.loads(line) for line in second.stderr.splitlines()]
    assert (last["event"], last["exit_code"]) == ("precall.failed", 3)
    assert str(port) in last["error"]


def test_a_daemon_answers_while_its_log_is_not_read(tmp_path: Path) -> None:
    port = free_port()
    config = config_file(tmp_path, "http://127.0.0.1:9", listen=f"127.0.0.1:{port}")
    read, write = os.pipe()
    os.set_blocking(write, False)
    with suppress(BlockingIOError):
        while True:
            os.write(write, bytes(4096))
    os.set_blocking(write, True)
    process = subprocess.Popen([*COMMAND, "run", "--config", config], stderr=write, env=ENVIRONMENT)
    os.close(write)
    try:
        until(lambda: answers(f"http://127.0.0.1:{port}"))
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 0
    finally:
        process.kill()
        process.wait()
        os.close(read)


@pytest.mark.parametrize("command", ["run", "migrate"])
@pytest.mark.parametrize(
    "content", ['[log]\nformat = "json"\nlevle = "info"\n', '[log]\nformat = "json"\n[store\n', ""]
)
def test_configuration_errors_are_logged_in_the_configured_format(
    tmp_path: Path, content: str, command: str
) -> None:
    config = tmp_path / "precall.toml"
    config.write_text(content or '[log]\nlevle = "info"\n')
    variables = {} if content else {"PRECALL_LOG__FORMAT": "json"}
    ended = shell('"$@"', command, "--config", config, **variables)
    lines = [json.loads(line) for line in ended.stderr.splitlines()]
    assert ended.returncode == 3
    assert [(one["event"], one["exit_code"]) for one in lines] == [("precall.failed", 3)]
    assert "log.levle" in lines[0]["error"] or "TOML" in lines[0]["error"]


def test_only_log_format_sets_the_format_of_the_log(tmp_path: Path) -> None:
    config = tmp_path / "precall.toml"
    config.write_text('[provider]\nformat = "json"\n[log]\nformat = "text"\n[store\n')
    ended = shell('"$@"', "run", "--config", config)
    assert ended.returncode == 3
    assert ended.stderr.startswith(b"precall: ")


@pytest.mark.parametrize(
    ("line", "code", "said"),
    [
        ('"$@" >/dev/full', 74, b"precall: standard output cannot be written: No space left on device\n"),
        ('"$@" >&-', 74, b"precall: standard output cannot be written: Bad file descriptor\n"),
        ('"$@" 2>&- <&-', 0, b""),
        ('"$@" >&- 2>/dev/full', 74, b""),
        ('"$@" >/dev/full 2>&-', 74, b""),
    ],
)
def test_output_that_cannot_be_written_is_a_one_line_error(line: str, code: int, said: bytes) -> None:
    ended = shell(line, "plan", "--bindings", "10", "--rate", "1")
    assert (ended.returncode, ended.stderr) == (code, said)


def test_a_closed_pipe_ends_a_command_like_sigpipe() -> None:
    read, write = os.pipe()
    os.close(read)
    ended = subprocess.run(
        [*COMMAND, "plan", "--bindings", "10", "--rate", "1"],
        stdout=write, stderr=subprocess.PIPE, env=ENVIRONMENT, timeout=240, check=False,
    )  # fmt: skip
    os.close(write)
    assert (ended.returncode, ended.stderr) == (-signal.SIGPIPE, b"")


@pytest.mark.parametrize("encoding", ["latin-1", "utf-8"])
def test_unencodable_characters_are_replaced_on_a_terminal(encoding: str) -> None:
    code = (
        "from precall import cli; from precall.cli import output; import sys\n"
        "cli.app = lambda: (output.facts({'city': '杭州'}), output.data({'city': '杭州'}), output.say('杭州'))\n"
        "cli.main()"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code], env=ENVIRONMENT | {"PYTHONIOENCODING": encoding},
        capture_output=True, timeout=240, check=False,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    shown = ended.stdout.decode("utf-8")
    assert ("杭州" in shown) is (encoding == "utf-8")
    assert json.loads(shown[shown.index("{") :]) == {"city": "杭州"}
