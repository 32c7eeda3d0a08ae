"""Key files for tests, and raw dumps of a database, as someone without the keys sees it."""

from pathlib import Path

from precall.store import cipher
from tests.support.postgres import psql, sql


def key_file(folder: Path, *secrets: bytes, name: str = "keys") -> Path:
    """Add a key made of each of these bytes to a key file, and return its path."""
    for secret in secrets or (b"1",):
        cipher.add(folder / name, secret * cipher.LENGTH)
    return folder / name


def dumped(url: str) -> str:
    """Return everything in the database as text; for SQLite, the raw bytes of its files."""
    if url.startswith("sqlite"):
        return "".join(file.read_bytes().decode("latin-1") for file in files(url))
    rows = psql(url, *(f'SELECT * FROM "{table}"' for table in tables(url)))  # noqa: S608
    return "\n".join(" ".join(row) for row in rows)


def files(url: str) -> list[Path]:
    """Return the files of an SQLite database, including its write-ahead log."""
    path = Path(url.removeprefix("sqlite:///"))
    return [file for file in path.parent.glob(f"{path.name}*") if file.suffix != ".lock"]


def tables(url: str) -> list[str]:
    """Return the names of all tables."""
    listed = (
        "SELECT name FROM sqlite_master WHERE type = 'table'"
        if url.startswith("sqlite")
        else "SELECT tablename FROM pg_tables WHERE schemaname = 'public'"
    )
    return [name for [name] in sql(url, listed)]
