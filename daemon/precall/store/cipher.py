"""Encryption of numbers at rest, with AES-256-GCM and the keys of a key file.

A sealed value is text, `~KEY~...`: the name of its key, then nonce, ciphertext and tag in base64. Its location (table,
column, row) is the associated data, so a value copied to another row or column does not open.

The nonce is a keyed hash of location and value rather than random. Equal values in one location have equal
ciphertexts: SQL can compare them, sealing twice changes nothing, and no counter has to survive a crash. Different
values share a nonce only if 96 bits of the hash collide.

Each key derives an encryption key and a nonce key. Without a key file, `Cipher()` passes plain values through and
refuses to open sealed ones.
"""

import re
from binascii import Error as Base64Error
from binascii import a2b_base64, b2a_base64
from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from precall.core.errors import ConfigError, StoreError
from precall.store import key_file

LENGTH = 32
MARK = "~"
NOTHING = ("", "{}")
"""Empty values (no number, no labels). They are not secret and stay unsealed."""
_NONCE, _NAME = 12, 8
_HEAD = len(MARK) + _NAME + len(MARK)
_SEALED = re.compile(rf"{MARK}[0-9a-f]{{{_NAME}}}{MARK}[A-Za-z0-9+/]{{38,}}={{0,2}}", re.ASCII)


@dataclass(frozen=True, slots=True)
class NumberKey:
    """A key of `LENGTH` bytes. Its name is derived from it, so two keys cannot be confused."""

    secret: bytes = field(repr=False)

    @property
    def name(self) -> str:
        """Return the eight hexadecimal digits that identify the key."""
        return self._derived(b"name", _NAME // 2).hex()

    def sealer(self) -> "_Sealer":
        """Return the object that seals and opens values with this key."""
        return _Sealer(self.name, self._derived(b"seal", LENGTH), self._derived(b"nonce", LENGTH))

    def _derived(self, use: bytes, length: int) -> bytes:
        return blake2b(digest_size=length, key=self.secret, person=b"precall " + use).digest()


class _Sealer:
    def __init__(self, name: str, secret: bytes, nonces: bytes) -> None:
        self.name = name
        self._head = f"{MARK}{name}{MARK}"
        self._cipher = AESGCM(secret)
        self._hash = blake2b(digest_size=_NONCE, key=nonces)

    def seal(self, location: bytes, text: bytes) -> str:
        digest = self._hash.copy()
        digest.update(b"%d %b%b" % (len(location), location, text))
        nonce = digest.digest()
        return (
            self._head
            + b2a_base64(nonce + self._cipher.encrypt(nonce, text, location), newline=False).decode()
        )

    def open(self, location: bytes, sealed: bytes) -> bytes:
        return self._cipher.decrypt(sealed[:_NONCE], sealed[_NONCE:], location)


class Cipher:
    """The available keys. The newest one seals, any of them opens; without keys nothing is sealed.

    `strict` says that every number in this database is sealed. A plain number is then rejected, since only another
    program can have written it.
    """

    def __init__(
        self, keys: Sequence[NumberKey] = (), file: Path | None = None, *, strict: bool = False
    ) -> None:
        self.file, self.strict = file, strict
        self._seen: key_file.Seen | None = None
        self._sealers = {key.name: key.sealer() for key in keys}
        self._newest = self._sealers[keys[-1].name] if keys else None

    @classmethod
    def of(cls, file: Path | None, *, strict: bool = False) -> "Cipher":
        """Load the keys of `file`; None means no keys. Raises ConfigError for an unusable file."""
        if file is None:
            return cls()
        seen = key_file.seen(file)
        cipher = cls(read(file), file, strict=strict)
        cipher._seen = seen
        return cipher

    def __bool__(self) -> bool:
        return self._newest is not None

    @property
    def newest(self) -> str:
        """The name of the key that seals, or "" if there is none."""
        return "" if self._newest is None else self._newest.name

    @property
    def head(self) -> str:
        """The prefix of every value sealed with the newest key."""
        return f"{MARK}{self.newest}{MARK}"

    @property
    def names(self) -> tuple[str, ...]:
        """The names of all keys, the newest last."""
        return tuple(self._sealers)

    def renewed(self) -> "Cipher":
        """Reload the key file if it changed. While the file is unusable, the keys read earlier stay in use."""
        if self.file is None:
            return self
        try:
            if key_file.seen(self.file) == self._seen:
                return self
            return Cipher.of(self.file, strict=self.strict)
        except ConfigError:
            return self

    def seal(self, location: str, text: str) -> str:
        """Seal `text` for this location. Empty values are returned unchanged."""
        if self._newest is None or text in NOTHING:
            return text
        return self._newest.seal(location.encode(), text.encode())

    def open(self, location: str, text: str) -> str:
        """Return the plain value of `text`, which is sealed for this location or was never sealed.

        Raises StoreError, naming the location, if the value does not open, or is plain although `strict` is set.
        """
        if not is_sealed(text):
            if self.strict and text not in NOTHING:
                raise StoreError(f"{_shown(location)} is not sealed, as all numbers here are: {_CURE}")
            return text
        sealer = self._sealers.get(key_of(text))
        if sealer is None:
            raise StoreError(f"{_shown(location)} is sealed with key {key_of(text)}, which is not at hand")
        try:
            return sealer.open(location.encode(), a2b_base64(text[_HEAD:])).decode()
        except (InvalidTag, Base64Error, ValueError):
            raise StoreError(
                f"{_shown(location)} does not open: it was damaged, or belongs elsewhere; {_CURE}"
            ) from None


_CURE = "register the binding again, or restore a copy of the database"


def is_sealed(text: str) -> bool:
    """Return whether `text` has the form of a sealed value."""
    return text.startswith(MARK) and _SEALED.fullmatch(text) is not None


def key_of(sealed: str) -> str:
    """Return the name of the key that sealed the value."""
    return sealed[len(MARK) : len(MARK) + _NAME]


def read(file: Path) -> list[NumberKey]:
    """Read the keys of a file, the newest last. Raises ConfigError."""
    keys = []
    for number, name, secret in key_file.read(file):
        if len(secret) != LENGTH or NumberKey(secret).name != name:
            where = f"{key_file.SETTING}: {file}, line {number}"
            raise ConfigError([f"{where}: is not a key made by `precall keys new`, or was altered"])
        keys.append(NumberKey(secret))
    return keys


def add(file: Path, secret: bytes) -> str:
    """Append a key to `file`, creating the file if needed. Return the name of the key. Raises ConfigError."""
    key = NumberKey(secret)
    keys = [*(read(file) if file.exists() else ()), key]
    key_file.write(file, [(each.name, each.secret) for each in keys])
    return key.name


def _shown(location: str) -> str:
    column, _, row = location.partition(" ")
    return f"{column} of {row}"
