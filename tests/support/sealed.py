"""Key files for tests, and what a reader of the database alone finds in it."""

from pathlib import Path

from precall.store import cipher
from tests.support.postgres import psql, sql


def key_file(folder: Path, *secrets: bytes, name: str = "keys") -> Path:
    """A file with a key of each of these bytes added to what is there."""
    for secret in secrets or (b"1",):
        cipher.add(folder / name, secret * cipher.LENGTH)
    return folder / name


def dumped(url: str) -> str:
    """Everything that a copy of the database tells: of SQLite the very bytes of its files."""
    if url.startswith("sqlite"):
        return "".join(file.read_bytes().decode("latin-1") for file in files(url))
    found = psql(url, *(f'SELECT * FROM "{table}"' for table in tables(url)))  # noqa: S608
    return "\n".join(" ".join(row) for row in found)


def files(url: str) -> list[Path]:
    """The files of an SQLite database, its log included."""
    path = Path(url.removeprefix("sqlite:///"))
    return [file for file in path.parent.glob(f"{path.name}*") if file.suffix != ".lock"]


def tables(url: str) -> list[str]:
    """The names of all that a database has."""
    listed = (
        "SELECT name FROM sqlite_master WHERE type = 'table'"
        if url.startswith("sqlite")
        else "SELECT tablename FROM pg_tables WHERE schemaname = 'public'"
    )
    return [name for [name] in sql(url, listed)]
