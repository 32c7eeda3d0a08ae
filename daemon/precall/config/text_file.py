"""Text files written by people: UTF-8, with or without a byte-order mark."""

from pathlib import Path

MARK = "utf-8-sig"
"""The encoding that drops a byte-order mark."""
_WIDE = (b"\xff\xfe", b"\xfe\xff")


class NotTextError(ValueError):
    """A file is not text in UTF-8. The text says why, and what to do."""


def read(path: str | Path) -> str:
    """Return the content of a file. Raises OSError or NotTextError."""
    raw = Path(path).read_bytes()
    if raw.startswith(_WIDE):
        raise NotTextError("it is in UTF-16; save it as UTF-8")
    try:
        return raw.decode(MARK)
    except UnicodeDecodeError as error:
        raise NotTextError(f"byte {error.start} is not UTF-8; save it as UTF-8") from None
