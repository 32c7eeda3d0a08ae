"""Text files that are part of the package, or of the source checkout it runs from."""

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent.parent


def text(name: str, folder: str = ".") -> str:
    """Return a file of the package or, in a source checkout, the one in `folder`."""
    installed = _PACKAGE / name
    beside = _PACKAGE.parent.parent / folder / name
    return (installed if installed.is_file() else beside).read_text(encoding="utf-8")
