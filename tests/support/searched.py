"""What a daemon leaves behind, searched for the numbers and the secrets it was given: its log, its metrics, its
problems, the events it tells, and the database as one reads it who has no key.

Searched for are the very numbers and not what looks like one, since the bytes of a database look like anything.
Which those are nobody has to say: they stand in the sources of the suite and in the files of the daemon's folder, or
the key opens them.
"""

import hashlib
import re
import shutil
import sqlite3
import time
import tomllib
import urllib.error
import urllib.request
from base64 import b64decode
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import quote, urlsplit

from precall.core.errors import StoreError
from precall.store import Cipher
from precall.store.sealed_columns import EVERYWHERE
from tests.support.postgres import sql
from tests.support.sealed import dumped, files, tables

NUMBER = re.compile(r"(?<![0-9])(?:1[3-9][0-9]{9}|700[0-9]{12})(?![0-9])")
"""A number as the suite writes it. (Indexes have twelve digits, ids sixteen, or few.)"""
REQUEST_ID = re.compile(r"[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}")
"""In one of some thousand a number seems to stand: eleven of its last twelve digits may be decimal by chance."""
LENGTHS = (11, 15)
"""Digits of a mobile, and of a 700 number."""
RENTED = ("170", "171", "700")
"""How an X and a temporary X begin. Events tell those; no event tells any other."""
SUITE = Path(__file__).parents[1] / "acceptance"

_DIGITS = re.compile(r"[0-9]{3,}(?:(?: |-|%20)[0-9]{3,})*")
"""Where a number may stand: with its prefix, in groups, or between what SQLite puts right beside it."""
_BETWEEN = re.compile(r" |-|%20")
_TOKEN = re.compile(r"(?=([A-Za-z0-9_-]{43}))")
_EVENTS = 20
"""Bindings whose history is taken."""


@dataclass(frozen=True, slots=True)
class Known:
    """What is searched for. Of tokens only the SHA-256 is known, as to the daemon."""

    numbers: frozenset[str]
    secrets: frozenset[str] = frozenset()
    tokens: frozenset[str] = frozenset()

    @property
    def hidden(self) -> "Known":
        """Without the numbers that are rented."""
        return Known(
            frozenset(one for one in self.numbers if not one.startswith(RENTED)), self.secrets, self.tokens
        )

    def within(self, text: str) -> list[str]:
        """Those that stand in a text, in whichever form."""
        found = {one for one in self.secrets if one in text}
        for written in set(_DIGITS.findall(text)):
            digits = _BETWEEN.sub("", written)
            for length in LENGTHS:
                parts = {digits[start : start + length] for start in range(len(digits) - length + 1)}
                found |= parts & self.numbers
        if self.tokens:
            found |= {one for one in _TOKEN.findall(text) if _digest(one) in self.tokens}
        return sorted(found)


class Search:
    """Of one daemon with this configuration. `plain` says why numbers are not sealed, where they are not."""

    def __init__(self, config: Path, plain: str = "") -> None:
        self._folder, self._plain = config.parent, plain
        self._config: dict[str, Any] = tomllib.loads(config.read_text(encoding="utf-8"))
        store = self._config["store"]
        self._url = store.get("url") or Path(store["url_file"]).read_text(encoding="utf-8").strip()
        self._keys = Path(store["number_key_file"]) if "number_key_file" in store else None
        assert plain or self._keys, "a daemon of the suite seals its numbers, or says why it does not"
        assert self._config.get("log", {}).get("level") == "debug", "a daemon of the suite tells all it can"
        self._secrets = set(secrets_in(self._config)) | keys_in(self._keys)
        self._told, self._events = list[str](), list[str]()

    def take(self, url: str) -> None:
        """What a daemon that lives tells whoever asks: once, shortly before its end. Some of it cannot be had while it
        starts, stands by or stops."""
        if self._told:
            return
        self._ask(url, "/metrics", self._told)
        listed = self._ask(url, "/v1/routes?limit=1000", self._events)
        ids = re.findall(r'"subs_id":"([^"]*)"', listed)[:_EVENTS]
        since = min(map(int, re.findall(r'"index":([0-9]+)', listed)), default=0)
        for path in (f"routes/changes?since={since}&wait=0", *(f"bindings/{one}/history" for one in ids)):
            self._ask(url, f"/v1/{path}", self._events)
        for path in (
            "routes/13800000001",
            "routes/by-number?x=17000000001&y=13800000001",
            "exposures?number=13800000001x",
        ):
            self._ask(url, f"/v1/{path}", self._told)

    def end(self, log: str) -> None:
        """Search what the daemon left. Raises AssertionError with what stands where."""
        known = self.known()
        found = {
            "log": known.within(log) + numbers_in(log),
            "metrics and problems": known.within("\n".join(self._told)),
            "events": known.hidden.within("\n".join(self._events)),
            "database": [] if self._plain else known.within(dumped(self._url)),
        }
        leaked = {place: what[:5] for place, what in found.items() if what}
        assert not leaked, f"left for others to read: {leaked}"

    def known(self) -> Known:
        """What this daemon was given to keep."""
        written = [
            *SUITE.glob("*.py"),
            *(one for end in ("toml", "jsonl", "csv") for one in self._folder.glob(f"*.{end}")),
        ]
        numbers = {number for file in written for number in numbers_in(file.read_text(encoding="utf-8"))}
        numbers.update(*map(numbers_in, self._events))
        if self._keys is not None and not self._plain:
            numbers |= opened(self._url, self._keys)
        api = self._config.get("api", {})
        tokens = {token["sha256"] for token in api.get("tokens", ())} | {
            api.get("receipts_secret_sha256", "")
        }
        secrets = self._secrets | keys_in(self._keys)
        return Known(frozenset(numbers), frozenset(secrets), frozenset(tokens - {""}))

    def _ask(self, url: str, path: str, to: list[str]) -> str:
        """The answer, put to what was told; a refusal is a problem, whatever was asked for."""
        try:
            with urllib.request.urlopen(f"{url}{path}", timeout=10) as reply:
                text: str = reply.read().decode()
                to.append(text)
                return text
        except urllib.error.HTTPError as error:
            with error:
                self._told.append(error.read().decode())
        except (OSError, HTTPException):
            pass
        return ""


def numbers_in(text: str) -> list[str]:
    """Whatever looks like a number in a text of ours."""
    found: list[str] = NUMBER.findall(REQUEST_ID.sub("", text))
    return found


def search_told(text: str) -> None:
    """Nothing in a problem or an error looks like a number, or is the suite's secret."""
    assert not numbers_in(text), text
    assert "demo-secret" not in text, text


def secrets_in(config: dict[str, Any]) -> Iterator[str]:
    """The secrets of a configuration, as they are and as they stand in a URL."""
    for section in ("provider", "store", "source"):
        for name, value in config.get(section, {}).items():
            text = (
                Path(value).read_text(encoding="utf-8").strip()
                if name.endswith(("secret_file", "token_file", "url_file"))
                else value
            )
            match name.removesuffix("_file"):
                case "access_key_secret" | "security_token":
                    yield from {text, quote(text, safe="")}
                case "url" if urlsplit(text).password:
                    yield str(urlsplit(text).password)


def keys_in(file: Path | None) -> set[str]:
    """The keys of a key file, in the forms in which bytes are written."""
    if file is None or not file.exists():
        return set()
    keys = [
        line.split()[1]
        for line in file.read_text(encoding="utf-8").splitlines()
        if line and not line.startswith("#")
    ]
    return {form for key in keys for form in (key, b64decode(key).hex(), b64decode(key).decode("latin-1"))}


def opened(url: str, keys: Path) -> set[str]:
    """Every number in a database, for one who has the keys. Of an SQLite file a copy is read: opening it would write to
    it what a killed daemon left undone. One that was copied while another daemon wrote is copied again."""
    for _ in range(20):
        try:
            with copied(url) as copy:
                return set(_opened(copy, Cipher.of(keys)))
        except (sqlite3.DatabaseError, StoreError):
            time.sleep(0.1)
    raise AssertionError("the copy of a database is none, again and again")


def _opened(url: str, seals: Cipher) -> Iterator[str]:
    there = tables(url)
    for places in EVERYWHERE:
        if places.table.name in there:
            names = list(dict.fromkeys((places.row, *places.columns)))
            columns = ", ".join(f'"{name}"' for name in names)
            for row in sql(url, f"SELECT {columns} FROM {places.table.name}"):  # noqa: S608
                found = places.open(seals, dict(zip(names, row, strict=True)))
                yield from numbers_in(" ".join(found[name] for name in places.columns))


@contextmanager
def copied(url: str) -> Iterator[str]:
    """The URL of a copy of an SQLite file; another database is asked itself."""
    if not url.startswith("sqlite"):
        yield url
        return
    with TemporaryDirectory(prefix="precall-searched-") as folder:
        for file in files(url):
            if not file.name.endswith("-shm"):
                shutil.copy(file, folder)
        yield f"sqlite:///{folder}/{Path(url).name}"


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
