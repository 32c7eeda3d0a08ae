"""Files for their owner alone, replaced whole or not at all."""

import errno
import os
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from precall import private_files
from precall.core.errors import OutputError
from precall.store.connection import DatabaseAddress


def mode(file: Path) -> int:
    return stat.S_IMODE(file.stat().st_mode)


@pytest.fixture(autouse=True)
def _generous_umask() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


@pytest.mark.parametrize("earlier", [None, 0o600, 0o644, 0o666])
def test_a_private_file_has_mode_0600_whatever_existed(tmp_path: Path, earlier: int | None) -> None:
    file = tmp_path / "numbers.jsonl"
    if earlier is not None:
        file.write_text("old")
        file.chmod(earlier)
    with private_files.replacing(file) as out:
        [fresh] = [path for path in tmp_path.iterdir() if path != file]
        assert mode(fresh) == 0o600
        out.write(b"new")
        assert not file.exists() or file.read_text() == "old"
    assert (file.read_text(), mode(file), list(tmp_path.iterdir())) == ("new", 0o600, [file])


def test_an_error_keeps_the_existing_file(tmp_path: Path) -> None:
    file = tmp_path / "numbers.jsonl"
    file.write_text("old")

    def interrupted() -> None:
        with private_files.replacing(file) as out:
            out.write(b"half")
            out.flush()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert (file.read_text(), list(tmp_path.iterdir())) == ("old", [file])


def test_earlier_permissions_are_kept_where_asked_for(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text("old")
    file.chmod(0o640)
    with private_files.replacing(file, mode=None) as out:
        out.write(b"new")
    assert mode(file) == 0o640


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    link, file = tmp_path / "link", tmp_path / "there" / "file"
    link.symlink_to("there/file")
    for text in (b"one", b"two"):
        with private_files.replacing(link) as out:
            out.write(text)
        assert (link.is_symlink(), file.read_bytes(), mode(file)) == (True, text, 0o600)


def test_circular_links_are_an_error(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(OutputError, match="cannot be written"), private_files.replacing(tmp_path / "a"):
        pass


def test_a_pipe_is_written_to(tmp_path: Path) -> None:
    pipe, got = tmp_path / "pipe", list[bytes]()
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: got.append(pipe.read_bytes()))
    reader.start()
    with private_files.replacing(pipe) as out:
        out.write(b"numbers")
    reader.join()
    assert (got, stat.S_ISFIFO(pipe.stat().st_mode)) == ([b"numbers"], True)


def test_a_file_named_by_its_descriptor_is_written_in_place(tmp_path: Path) -> None:
    file = tmp_path / "log"
    with file.open("w") as opened:
        opened.write("before\n")
        opened.flush()
        with private_files.replacing(Path(f"/dev/fd/{opened.fileno()}")) as out:
            out.write(b"numbers\n")
    assert "numbers" in file.read_text()
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize("size", [1, 1_000_000])
def test_a_full_disk_is_one_error_and_leaves_no_file(size: int) -> None:
    said = r"^/dev/full cannot be written: No space left on device$"
    with pytest.raises(OutputError, match=said) as caught, private_files.replacing(Path("/dev/full")) as out:
        out.write(b"x" * size)
    assert caught.value.errno == errno.ENOSPC


@pytest.mark.parametrize("name", [".", "nowhere/file"])
def test_an_impossible_path_is_an_error(tmp_path: Path, name: str) -> None:
    with pytest.raises(OutputError, match="cannot be written"), private_files.replacing(tmp_path / name):
        pass


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_leaves_the_file_that_was_there(tmp_path: Path, number: signal.Signals) -> None:
    file = tmp_path / "numbers.jsonl"
    file.write_text("old")
    # Under nohup, SIGHUP is ignored, and children inherit that.
    code = (
        "import signal, sys; from pathlib import Path; from precall import private_files\n"
        "signal.signal(int(sys.argv[2]), signal.SIG_DFL)\n"
        "with private_files.replacing(Path(sys.argv[1])) as out:\n"
        "    out.write(b'half'); out.flush(); signal.raise_signal(int(sys.argv[2]))"
    )
    ended = subprocess.run([sys.executable, "-c", code, file, str(int(number))], timeout=60, check=False)
    assert (ended.returncode, file.read_text(), list(tmp_path.iterdir())) == (-number, "old", [file])


@pytest.mark.parametrize(
    ("earlier", "later"), [(None, 0o600), (0o644, 0o600), (0o666, 0o600), (0o600, 0o600), (0o640, 0o640)]
)
async def test_a_database_file_is_closed_to_others(tmp_path: Path, earlier: int | None, later: int) -> None:
    file = tmp_path / "precall.db"
    if earlier is not None:
        file.touch()
        file.chmod(earlier)
    engine = DatabaseAddress(f"sqlite:///{file}").engine(1.0, writes=True)
    async with engine.begin() as connection:
        await connection.exec_driver_sql("CREATE TABLE t (x)")
        found = {path.name: mode(path) for path in tmp_path.iterdir()}
    await engine.dispose()
    assert found == dict.fromkeys(("precall.db", "precall.db-wal", "precall.db-shm"), later)
