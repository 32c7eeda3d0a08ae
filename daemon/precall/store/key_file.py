"""The key file: one line `NAME KEY` per key, the newest last; lines that begin with # are comments.

This module handles its format, permissions and atomic replacement. `cipher` uses the keys.
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
"""Disk errors, which no change of the configuration can fix."""

Seen = tuple[int, int, int, int]
"""(device, inode, mtime in ns, size): changes whenever the file is rewritten."""


def seen(file: Path) -> Seen:
    """Return the current identity of the file. Raises ConfigError if it does not exist."""
    try:
        status = file.stat()
    except OSError as error:
        raise ConfigError([_unreadable(file, error)]) from None
    return status.st_dev, status.st_ino, status.st_mtime_ns, status.st_size


def read(file: Path) -> list[tuple[int, str, bytes]]:
    """Return (line number, name, key) for each key, in file order.

    Raises ConfigError for a file that other users may read, that is unreadable, or that holds no key.
    """
    try:
        _require_private(file, file.stat())
        lines = text_file.read(file).splitlines()
    except OSError as error:
        raise ConfigError([_unreadable(file, error)]) from None
    except text_file.NotTextError:
        raise ConfigError([f"{SETTING}: {file} is not a file made by `precall keys new`"]) from None
    keys = [
        (number, *_key(file, number, line.split()))
        for number, line in enumerate(lines, 1)
        if line.strip() and not line.startswith("#")
    ]
    if not keys:
        raise ConfigError([f"{SETTING}: {file} holds no key: make one with `precall keys new`"])
    return keys


def write(file: Path, keys: Iterable[tuple[str, bytes]]) -> None:
    """Atomically replace the file with one that contains these keys.

    Permissions and owner are kept; a new file is readable by its owner only. Raises ConfigError, or OutputError for
    a disk error.
    """
    lines = [f"{name} {b64encode(secret).decode()}\n" for name, secret in keys]
    try:
        with private_files.replacing(file, mode=None) as out:
            out.write((HEADING + "".join(lines)).encode("ascii"))
    except OutputError as error:
        if error.errno in _NO_ROOM:
            raise
        raise ConfigError([f"{SETTING}: {error}"]) from None


def _require_private(file: Path, status: os.stat_result) -> None:
    """Apply PostgreSQL's rule for key files: access by the owner only; if that is root, its group may read."""
    mode = stat.S_IMODE(status.st_mode)
    if mode & (stat.S_IRWXO | stat.S_IWGRP | (stat.S_IRGRP if status.st_uid else 0)):
        raise ConfigError([f"{SETTING}: {file} is open to other users (mode {mode:04o}): chmod 600 {file}"])


def _key(file: Path, number: int, words: list[str]) -> tuple[str, bytes]:
    try:
        name, text = words
        keep(text)
        return name, b64decode(text, validate=True)
    except (ValueError, Base64Error):
        raise ConfigError(
            [f"{SETTING}: {file}, line {number}: is not a key made by `precall keys new`, or was altered"]
        ) from None


def _unreadable(file: Path, error: OSError) -> str:
    cure = (
        "create it with `precall keys new`"
        if isinstance(error, FileNotFoundError)
        else "let this user read it"
    )
    return f"{SETTING}: {file} cannot be read ({error.strerror}): {cure}, or restore its copy"
