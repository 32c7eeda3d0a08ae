"""Text files that people write: UTF-8, with or without the mark that some editors put at the beginning."""

from pathlib import Path

MARK = "utf-8-sig"
"""The encoding to open such a file by: the mark is no part of what it says."""
_WIDE = (b"\xff\xfe", b"\xfe\xff")


class NotTextError(ValueError):
    """The file is no text in UTF-8; why, and what to do."""


def read(path: str | Path) -> str:
    """What stands in the file. Raises OSError, NoText."""
    raw = Path(path).read_bytes()
    if raw.startswith(_WIDE):
        raise NotTextError("it is in UTF-16; save it as UTF-8")
    try:
        return raw.decode(MARK)
    except UnicodeDecodeError as error:
        raise NotTextError(f"byte {error.start} is no UTF-8; save it as UTF-8") from None
