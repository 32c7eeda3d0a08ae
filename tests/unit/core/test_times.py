"""Times as people and programs write them, over the API and in a source."""

from datetime import UTC

import pytest

from precall.api.schemas.fields import seconds
from precall.core.sync.columns import BadRow, Columns

NOON = 1_801_368_000.0  # 2027-01-31T04:00:00Z


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("2027-01-31T12:00:00+08:00", NOON),
        ("2027-01-31T12:00:00+0800", NOON),
        ("2027-01-31T12:00+08:00", NOON),
        ("2027-01-31 12:00:00.75+08:00", NOON),
        ("2027-01-31T04:00Z", NOON),
        ("2027-01-31t04:00:00z", NOON),
        ("2027-01-31T11:59:60+08:00", NOON),
        ("2027-01-31T03:59:60.5Z", NOON),
    ],
)
def test_the_same_moment_in_many_spellings(text: str, at: float) -> None:
    assert seconds(text) == at
    columns = Columns(["subs_id", "pool_key", "number_x", "number_a", "expires_at"], UTC)
    found = columns.read(["1", "FC1", "17000000001", "13800138000", text])
    assert not isinstance(found, BadRow)
    assert found.expires_at == at


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("2027-01-31T12:00:00 08:00", "in a URL a \\+ is a space"),
        ("2027-01-31T12:00 0800", "in a URL a \\+ is a space"),
        ("2027-01-31T12:00:00", "with its zone"),
        ("2027-01-31T12:00:61Z", "a time that exists"),
        ("2027-01-31T24:00:60Z", "a time that exists"),
        ("2027-01-31", "with its zone"),
        ("9999-12-31T23:59:60Z", "between the years"),
    ],
)
def test_invalid_times_are_reported(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        seconds(text)
