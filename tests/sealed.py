"""Key files for tests, and what a reader of the database alone finds in it."""

from pathlib import Path

from precall.store import seal
from tests.postgres import psql

TABLES = (
    "bindings",
    "routes",
    "overrides",
    "check_results",
    "route_changes",
    "exposures",
    "calls",
    "dial_log",
    "marks",
)


def key_file(folder: Path, *secrets: bytes, name: str = "keys") -> Path:
    """A file with a key of each of these bytes added to what is there."""
    for secret in secrets or (b"1",):
        seal.add(folder / name, secret * seal.LENGTH)
    return folder / name


def dumped(url: str) -> str:
    """Everything that a copy of the database tells: of SQLite the very bytes of its files."""
    if url.startswith("sqlite"):
        path = Path(url.removeprefix("sqlite:///"))
        files = [file for file in path.parent.glob(f"{path.name}*") if file.suffix != ".lock"]
        return "".join(file.read_bytes().decode("latin-1") for file in files)
    return "\n".join(" ".join(row) for table in TABLES for row in psql(url, f"SELECT * FROM {table}"))  # noqa: S608
