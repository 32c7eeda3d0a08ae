"""Numbers at rest: sealed with AES-256-GCM under the keys of a file. The one home of `cryptography`.

A sealed value is text, `~KEY~...`: the name of its key, then nonce, ciphertext and tag in base64. It is bound to its
place (table, column, row) as associated data, so that a value moved to another row or column does not open. The nonce
is a keyed hash of place and value, not chance: equal values in one place are sealed alike, so that SQL can compare
them, sealing again changes nothing, and no counter has to survive a crash; different ones share a nonce only if 96 bits
of the hash collide.

Each key makes two others, one to seal with and one for the nonces. Whoever has no key file has `Seals()`: it takes and
gives plain values, and opens nothing that is sealed.
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
"""No number, no labels: not sealed, for that there is none is no secret."""
_NONCE, _NAME = 12, 8
_HEAD = len(MARK) + _NAME + len(MARK)
_SEALED = re.compile(rf"{MARK}[0-9a-f]{{{_NAME}}}{MARK}[A-Za-z0-9+/]{{38,}}={{0,2}}", re.ASCII)


@dataclass(frozen=True, slots=True)
class NumberKey:
    """A key of `LENGTH` bytes, and the name that follows from it: a key cannot be taken for another."""

    secret: bytes = field(repr=False)

    @property
    def name(self) -> str:
        """Eight hexadecimal digits."""
        return self._derived(b"name", _NAME // 2).hex()

    def sealer(self) -> "_Sealer":
        """What seals and opens with it."""
        return _Sealer(self.name, self._derived(b"seal", LENGTH), self._derived(b"nonce", LENGTH))

    def _derived(self, use: bytes, length: int) -> bytes:
        return blake2b(digest_size=length, key=self.secret, person=b"precall " + use).digest()


class _Sealer:
    def __init__(self, name: str, secret: bytes, nonces: bytes) -> None:
        self.name = name
        self._head = f"{MARK}{name}{MARK}"
        self._cipher = AESGCM(secret)
        self._hash = blake2b(digest_size=_NONCE, key=nonces)

    def seal(self, place: bytes, text: bytes) -> str:
        digest = self._hash.copy()
        digest.update(b"%d %b%b" % (len(place), place, text))
        nonce = digest.digest()
        return (
            self._head + b2a_base64(nonce + self._cipher.encrypt(nonce, text, place), newline=False).decode()
        )

    def open(self, place: bytes, sealed: bytes) -> bytes:
        return self._cipher.decrypt(sealed[:_NONCE], sealed[_NONCE:], place)


class Cipher:
    """The keys at hand: the newest seals, all open. None: nothing is sealed.

    `strict`: every number in this database is sealed, so one that is not was put there by somebody else.
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
        """The keys of `file` (None: none). Raises ConfigError for a file that cannot be used."""
        if file is None:
            return cls()
        seen = key_file.seen(file)
        seals = cls(read(file), file, strict=strict)
        seals._seen = seen
        return seals

    def __bool__(self) -> bool:
        return self._newest is not None

    @property
    def newest(self) -> str:
        """The name of the key that seals; "" for none."""
        return "" if self._newest is None else self._newest.name

    @property
    def head(self) -> str:
        """How every value begins that the newest key sealed."""
        return f"{MARK}{self.newest}{MARK}"

    @property
    def names(self) -> tuple[str, ...]:
        """Of all keys, the newest last."""
        return tuple(self._sealers)

    def renewed(self) -> "Cipher":
        """The keys of the file as it stands now. While it cannot be used, what was read of it before holds."""
        if self.file is None:
            return self
        try:
            if key_file.seen(self.file) == self._seen:
                return self
            return Cipher.of(self.file, strict=self.strict)
        except ConfigError:
            return self

    def seal(self, place: str, text: str) -> str:
        """`text` for this place; `NOTHING` as it is."""
        if self._newest is None or text in NOTHING:
            return text
        return self._newest.seal(place.encode(), text.encode())

    def open(self, place: str, text: str) -> str:
        """What was sealed for this place, or was never sealed.

        Raises StoreError, which names the place, for what does not open, or is not sealed where all is.
        """
        if not is_sealed(text):
            if self.strict and text not in NOTHING:
                raise StoreError(f"{_shown(place)} is not sealed, as all numbers here are: {_CURE}")
            return text
        sealer = self._sealers.get(key_of(text))
        if sealer is None:
            raise StoreError(f"{_shown(place)} is sealed with key {key_of(text)}, which is not at hand")
        try:
            return sealer.open(place.encode(), a2b_base64(text[_HEAD:])).decode()
        except (InvalidTag, Base64Error, ValueError):
            raise StoreError(
                f"{_shown(place)} does not open: it was damaged, or belongs elsewhere; {_CURE}"
            ) from None


_CURE = "register the binding again, or restore a copy of the database"


def is_sealed(text: str) -> bool:
    """Whether it has the form of a sealed value."""
    return text.startswith(MARK) and _SEALED.fullmatch(text) is not None


def key_of(sealed: str) -> str:
    """The name of the key that sealed it."""
    return sealed[len(MARK) : len(MARK) + _NAME]


def read(file: Path) -> list[NumberKey]:
    """The keys of a file, the newest last. Raises ConfigError."""
    keys = []
    for number, name, secret in key_file.read(file):
        if len(secret) != LENGTH or NumberKey(secret).name != name:
            raise ConfigError(
                [
                    f"{key_file.SETTING}: {file}, line {number}: is no key of `precall keys new`, or was altered"
                ]
            )
        keys.append(NumberKey(secret))
    return keys


def add(file: Path, secret: bytes) -> str:
    """Add a key to a file, which is made if it is not there; gives the name of the key. Raises ConfigError."""
    made = NumberKey(secret)
    keys = [*(read(file) if file.exists() else ()), made]
    key_file.write(file, [(key.name, key.secret) for key in keys])
    return made.name


def _shown(place: str) -> str:
    column, _, row = place.partition(" ")
    return f"{column} of {row}"
