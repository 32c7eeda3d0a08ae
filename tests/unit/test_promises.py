"""What users hold on to changes only on purpose."""

import pytest

from tests.support import promises


@pytest.mark.parametrize("name", promises.KINDS)
def test_what_users_hold_on_to_is_as_it_was(name: str) -> None:
    kept = (promises.FOLDER / name).read_text(encoding="utf-8").strip()
    assert promises.KINDS[name]().strip() == kept, (
        "if this was meant: python -m tests.support.promises, and a CHANGELOG line"
    )
