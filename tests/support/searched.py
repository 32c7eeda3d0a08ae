"""Search a daemon's output for numbers and secrets that it must not reveal.

The output is its log, metrics, problem responses, events, and the database as read without the keys.

The search is for exact numbers, since raw bytes of a database can look like anything. It collects them from the
sources of the suite, the files in the daemon's folder, and the database as read with the keys.
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
"""A phone number in the suite. Indexes have twelve digits; ids have sixteen, or few."""
REQUEST_ID = re.compile(r"[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}")
"""About one in a thousand seems to contain a number: eleven of its last twelve digits can be decimal by chance."""
LENGTHS = (11, 15)
"""Digits of a mobile number and of a 700 number."""
RENTED = ("170", "171", "700")
"""Prefixes of X and temporary numbers, the only numbers that events may contain."""
SUITE = Path(__file__).parents[1] / "acceptance"

_DIGITS = re.compile(r"[0-9]{3,}(?:(?: |-|%20)[0-9]{3,})*")
"""Digits that may contain a number: with a prefix, in groups, or next to other digits in a page of SQLite."""
_BETWEEN = re.compile(r" |-|%20")
_FRACTION = re.compile(r"(?<=[0-9])\.[0-9]+(?:e[-+]?[0-9]+)?$", re.MULTILINE)
"""The fraction of a sample's value."""
_TOKEN = re.compile(r"(?=([A-Za-z0-9_-]{43}))")
_EVENTS = 20
"""Bindings whose history is read."""


@dataclass(frozen=True, slots=True)
class Known:
    """What to search for. As in the daemon, tokens are known only by their SHA-256."""

    numbers: frozenset[str]
    secrets: frozenset[str] = frozenset()
    tokens: frozenset[str] = frozenset()

    @property
    def hidden(self) -> "Known":
        """The same without X and temporary numbers."""
        return Known(
            frozenset(number for number in self.numbers if not number.startswith(RENTED)),
            self.secrets,
            self.tokens,
        )

    def within(self, text: str) -> list[str]:
        """Return those that occur in a text, in any spelling."""
        found = {secret for secret in self.secrets if secret in text}
        for written in set(_DIGITS.findall(text)):
            digits = _BETWEEN.sub("", written)
            for length in LENGTHS:
                parts = {digits[start : start + length] for start in range(len(digits) - length + 1)}
                found |= parts & self.numbers
        if self.tokens:
            found |= {token for token in _TOKEN.findall(text) if _digest(token) in self.tokens}
        return sorted(found)


class Search:
    """The search of one daemon. `plain` is the reason why its numbers are not sealed, if they are not."""

    def __init__(self, config: Path, plain: str = "") -> None:
        self._folder, self._plain = config.parent, plain
        self._config: dict[str, Any] = tomllib.loads(config.read_text(encoding="utf-8"))
        store = self._config["store"]
        self._url = store.get("url") or Path(store["url_file"]).read_text(encoding="utf-8").strip()
        self._keys = Path(store["number_key_file"]) if "number_key_file" in store else None
        assert plain or self._keys, "a daemon of the suite must seal its numbers, or say why it does not"
        assert self._config.get("log", {}).get("level") == "debug", (
            "a daemon of the suite must log everything"
        )
        self._secrets = set(secrets_in(self._config)) | keys_in(self._keys)
        self._output, self._events = list[str](), list[str]()

    def take(self, url: str) -> None:
        """Collect the output of a running daemon, once, shortly before it ends.

        Parts of it are not available while the daemon starts, stands by or stops.
        """
        if self._output:
            return
        metrics: list[str] = []
        self._ask(url, "/metrics", metrics)
        # Without fractions: 0.17000000000000004 is a sum of durations.
        self._output += [_FRACTION.sub("", text) for text in metrics]
        for path in ("/readyz", "/v1/status"):
            self._ask(url, path, self._output)
        listed = self._ask(url, "/v1/routes?limit=1000", self._events)
        ids = re.findall(r'"subs_id":"([^"]*)"', listed)[:_EVENTS]
        since = min(map(int, re.findall(r'"index":([0-9]+)', listed)), default=0)
        for path in (
            f"routes/changes?since={since}&wait=0",
            *(f"bindings/{subs_id}/history" for subs_id in ids),
        ):
            self._ask(url, f"/v1/{path}", self._events)
        for path in (
            "routes/13800000001",
            "routes/by-number?x=17000000001&y=13800000001",
            "exposures?number=13800000001x",
        ):
            self._ask(url, f"/v1/{path}", self._output)

    def end(self, log: str) -> None:
        """Search all output. Raises AssertionError with what leaked where."""
        known = self.known()
        found = {
            "log": known.within(log) + numbers_in(log),
            "metrics and problems": known.within("\n".join(self._output)),
            "events": known.hidden.within("\n".join(self._events)),
            "database": [] if self._plain else known.within(dumped(self._url)),
        }
        leaked = {where: what[:5] for where, what in found.items() if what}
        assert not leaked, f"leaked: {leaked}"

    def known(self) -> Known:
        """Return what this daemon must not reveal."""
        written = [
            *SUITE.glob("*.py"),
            *(file for suffix in ("toml", "jsonl", "csv") for file in self._folder.glob(f"*.{suffix}")),
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
        """Add a response to `to` and return it; an error response is added to the problems and "" returned."""
        try:
            with urllib.request.urlopen(f"{url}{path}", timeout=10) as reply:
                text: str = reply.read().decode()
                to.append(text)
                return text
        except urllib.error.HTTPError as error:
            with error:
                self._output.append(error.read().decode())
        except (OSError, HTTPException):
            pass
        return ""


def numbers_in(text: str) -> list[str]:
    """Return everything that looks like a number in a text of precall."""
    found: list[str] = NUMBER.findall(REQUEST_ID.sub("", text))
    return found


def assert_clean(text: str) -> None:
    """Assert that a problem or an error contains nothing like a number, and not the suite's secret."""
    assert not numbers_in(text), text
    assert "demo-secret" not in text, text


def secrets_in(config: dict[str, Any]) -> Iterator[str]:
    """Yield the secrets of a configuration, as written and as encoded in a URL."""
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
    """Return the keys of a key file, in every encoding in which they may appear."""
    if file is None or not file.exists():
        return set()
    keys = [
        line.split()[1]
        for line in file.read_text(encoding="utf-8").splitlines()
        if line and not line.startswith("#")
    ]
    return {form for key in keys for form in (key, b64decode(key).hex(), b64decode(key).decode("latin-1"))}


def opened(url: str, keys: Path) -> set[str]:
    """Return every number in a database, read with the keys.

    An SQLite file is copied first, because opening it would recover what a killed daemon left. A copy that is
    inconsistent, since another daemon was writing, is made again.
    """
    for _ in range(20):
        try:
            with copied(url) as copy:
                return set(_opened(copy, Cipher.of(keys)))
        except (sqlite3.DatabaseError, StoreError):
            time.sleep(0.1)
    raise AssertionError("every copy of the database is inconsistent")


def _opened(url: str, cipher: Cipher) -> Iterator[str]:
    existing = tables(url)
    for sealed in EVERYWHERE:
        if sealed.table.name in existing:
            names = sealed.needed
            columns = ", ".join(f'"{name}"' for name in names)
            for row in sql(url, f"SELECT {columns} FROM {sealed.table.name}"):  # noqa: S608
                values = sealed.open(cipher, dict(zip(names, row, strict=True)))
                yield from numbers_in(" ".join(values[name] for name in sealed.columns))


@contextmanager
def copied(url: str) -> Iterator[str]:
    """Yield the URL of a copy of an SQLite file; any other URL is yielded as it is."""
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
