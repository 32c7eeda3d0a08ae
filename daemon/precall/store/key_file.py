"""The file of number keys: a line `NAME KEY` for each, the newest last; lines that begin with # are remarks.

Only its form, its permissions and how it is written belong here; what a key does is `seal`'s part.
"""

import errno
import os
import stat
from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from collections.abc import Iterable
from pathlib import Path

from precall import private_files
from precall.config import text_file
from precall.core.errors import ConfigError, OutputError
from precall.telemetry.redaction import keep

SETTING = "store.number_key_file"
HEADING = """\
# precall number keys, made by `precall keys new`: the last one seals, all of them open.
# Keep a copy, apart from the copies of the database: without it the numbers in there are lost.
"""

_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO})
"""Troubles of the disk: nothing in the configuration mends them."""

Seen = tuple[int, int, int, int]
"""What differs when a file was written anew."""


def seen(file: Path) -> Seen:
    """What the file looks like now. Raises ConfigError when it is not there."""
    try:
        found = file.stat()
    except OSError as error:
        raise ConfigError([_unreadable(file, error)]) from None
    return found.st_dev, found.st_ino, found.st_mtime_ns, found.st_size


def read(file: Path) -> list[tuple[int, str, bytes]]:
    """(line, name, key) of each, in their order. Raises ConfigError for a file that others may read, that cannot be
    read, or that holds no key."""
    try:
        _guarded(file, file.stat())
        lines = text_file.read(file).splitlines()
    except OSError as error:
        raise ConfigError([_unreadable(file, error)]) from None
    except text_file.NotTextError:
        raise ConfigError([f"{SETTING}: {file} is no file of `precall keys new`"]) from None
    keys = [
        (number, *_key(file, number, line.split()))
        for number, line in enumerate(lines, 1)
        if line.strip() and not line.startswith("#")
    ]
    if not keys:
        raise ConfigError([f"{SETTING}: {file} holds no key: make one with `precall keys new`"])
    return keys


def write(file: Path, keys: Iterable[tuple[str, bytes]]) -> None:
    """Put a file with these keys in place of what is there, at once: readers find the old or the new one whole.

    It keeps its permissions and owner; a new one is for its owner alone. Raises ConfigError, Unwritten.
    """
    lines = [f"{name} {b64encode(secret).decode()}\n" for name, secret in keys]
    try:
        with private_files.replacing(file, mode=None) as out:
            out.write((HEADING + "".join(lines)).encode("ascii"))
    except OutputError as error:
        if error.errno in _NO_ROOM:
            raise
        raise ConfigError([f"{SETTING}: {error}"]) from None


def _guarded(file: Path, found: os.stat_result) -> None:
    """As PostgreSQL has it for its keys: nobody but the owner; where that is root, a group may read."""
    mode = stat.S_IMODE(found.st_mode)
    if mode & (stat.S_IRWXO | stat.S_IWGRP | (stat.S_IRGRP if found.st_uid else 0)):
        raise ConfigError([f"{SETTING}: {file} is open to other users (mode {mode:04o}): chmod 600 {file}"])


def _key(file: Path, number: int, words: list[str]) -> tuple[str, bytes]:
    try:
        name, text = words
        keep(text)
        return name, b64decode(text, validate=True)
    except (ValueError, Base64Error):
        raise ConfigError(
            [f"{SETTING}: {file}, line {number}: is no key of `precall keys new`, or was altered"]
        ) from None


def _unreadable(file: Path, error: OSError) -> str:
    cure = (
        "make it with `precall keys new`" if isinstance(error, FileNotFoundError) else "let this user read it"
    )
    return f"{SETTING}: {file} cannot be read ({error.strerror}): {cure}, or restore its copy"
