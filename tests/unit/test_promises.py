"""Promised interfaces change only on purpose."""

import pytest

from tests.support import promises


@pytest.mark.parametrize("name", promises.KINDS)
def test_promised_interfaces_are_unchanged(name: str) -> None:
    kept = (promises.FOLDER / name).read_text(encoding="utf-8").strip()
    assert promises.KINDS[name]().strip() == kept, (
        "if this was meant: python -m tests.support.promises, and a CHANGELOG line"
    )
