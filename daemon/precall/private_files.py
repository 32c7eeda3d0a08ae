"""Write files that hold numbers or keys: closed to other users from the first byte, and replaced atomically.

If the new file cannot be completed, the earlier one stays unchanged. A pipe, a terminal or `/dev/stdout` is written to
directly and keeps the permissions it was opened with.
"""

import errno
import io
import os
import signal
import stat
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import BinaryIO, cast

from precall.core.errors import OutputError

OWNER_ONLY = 0o600
_ENDINGS = (signal.SIGTERM, signal.SIGHUP)


class Output(io.FileIO):
    """A file to write to, by its descriptor and its name in errors. A write that fails raises OutputError."""

    def __init__(self, descriptor: int, called: str, *, closefd: bool = True) -> None:
        super().__init__(descriptor, "wb", closefd=closefd)
        self.called = called

    def write(self, data: object, /) -> int:
        """As FileIO."""
        try:
            return super().write(data)  # type: ignore[arg-type]
        except OSError as error:
            raise unwritten(self.called, error) from None


def unwritten(called: object, error: OSError) -> OutputError:
    """The error of a file or stream that could not be written, in one line."""
    return OutputError(f"{called} cannot be written: {error.strerror or error}", error.errno or 0)


@contextmanager
def replacing(file: Path, *, mode: int | None = OWNER_ONLY) -> Iterator[BinaryIO]:
    """Yield a writer whose content replaces `file` when the block ends without an error.

    The new file has the permissions `mode`; None keeps those of the earlier file. A symbolic link stays a link. The
    owner is kept where this process may set it. Raises OutputError.
    """
    try:
        target = _plain_target(file)
        if target is None:
            descriptor = os.open(file, os.O_WRONLY | os.O_CLOEXEC)
        else:
            descriptor, name = tempfile.mkstemp(prefix=f".{target.name}.", suffix=".new", dir=target.parent)
    except OSError as error:
        raise unwritten(file, error) from None
    with cast("BinaryIO", io.BufferedWriter(Output(descriptor, str(file)))) as out:
        if target is None:
            yield out
            return
        fresh = Path(name)
        try:
            with _removed_when_killed(fresh):
                yield out
                out.flush()
                _put_in_place(descriptor, fresh, target, mode)
        except OSError as error:
            raise unwritten(file, error) from None
        finally:
            fresh.unlink(missing_ok=True)


def shut(file: Path) -> bool:
    """Close a file to all other users if it is open to everybody. Returns whether it was.

    A file that is open to its group alone stays so: that was done on purpose. Raises OSError for another user's file.
    """
    found = file.stat()
    if not stat.S_ISREG(found.st_mode) or not found.st_mode & stat.S_IRWXO:
        return False
    file.chmod(OWNER_ONLY)
    return True


def make(file: Path) -> bool:
    """Make an empty file for its owner alone, unless the path exists. Returns whether it did. Raises OSError."""
    try:
        os.close(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, OWNER_ONLY))
    except FileExistsError:
        return False
    return True


def _plain_target(file: Path) -> Path | None:
    """The path of a plain file, with symbolic links followed; None for anything else.

    An open file named by its descriptor (`/dev/stdout`) counts as anything else: the process that opened it goes on
    writing to the same file.
    """
    for _ in range(40):
        if file.parent.resolve().is_relative_to("/proc"):
            return None
        if not file.is_symlink():
            break
        file = file.parent / file.readlink()
    else:
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
    try:
        kind = file.stat().st_mode
    except FileNotFoundError:
        return file
    if stat.S_ISDIR(kind):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    return file if stat.S_ISREG(kind) else None


def _put_in_place(descriptor: int, fresh: Path, target: Path, mode: int | None) -> None:
    earlier = target.stat() if target.exists() else None
    if earlier is not None and (earlier.st_uid, earlier.st_gid) != (os.getuid(), os.getgid()):
        with suppress(PermissionError):
            os.fchown(descriptor, earlier.st_uid, earlier.st_gid)
    if mode is None:
        mode = OWNER_ONLY if earlier is None else stat.S_IMODE(earlier.st_mode)
    os.fchmod(descriptor, mode)
    os.fsync(descriptor)
    fresh.replace(target)
    folder = os.open(target.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        # Some file systems cannot sync directories; the content is safe without it.
        with suppress(OSError):
            os.fsync(folder)
    finally:
        os.close(folder)


@contextmanager
def _removed_when_killed(fresh: Path) -> Iterator[None]:
    """Remove the unfinished file when a signal ends the process. Works in the main thread only."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def end(number: int, _frame: FrameType | None) -> None:
        fresh.unlink(missing_ok=True)
        signal.signal(number, signal.SIG_DFL)
        signal.raise_signal(number)

    ours = [number for number in _ENDINGS if signal.getsignal(number) is signal.SIG_DFL]
    for number in ours:
        signal.signal(number, end)
    try:
        yield
    finally:
        for number in ours:
            signal.signal(number, signal.SIG_DFL)
