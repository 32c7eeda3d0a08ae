"""Durations in the configuration and on the command line."""

import re
from collections.abc import Iterable

_DURATION = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h|d)")
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}


def seconds(value: object) -> object:
    """Return the seconds of a duration such as "30s", "5m", "1.5h" or "90d"."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        # ValueError, not TypeError: pydantic collects only the former.
        raise ValueError('a duration is written with its unit, such as "30s", "5m", "24h" or "90d"')  # noqa: TRY004
    if isinstance(value, str):
        match = _DURATION.fullmatch(value.strip())
        if match is None:
            raise ValueError(f'{value!r} is not a duration; write "30s", "5m", "24h" or "90d"')
        return float(match[1]) * _UNITS[match[2]]
    return value


def text(value: float) -> str:
    """Return seconds as a duration, in the largest unit of which it is a whole number."""
    for unit in ("d", "h", "m", "s"):
        count = value / _UNITS[unit]
        if count >= 1 and count.is_integer():
            return f"{count:.0f}{unit}"
    return f"{value * 1000:.15g}ms"


def is_duration(metadata: Iterable[object]) -> bool:
    """Whether a field with this metadata is read by `seconds`."""
    return any(getattr(one, "func", None) is seconds for one in metadata)
