"""The sampled log of dials and answers: which bindings it covers, and what it records of them.

A binding is logged for its whole lifetime or not at all. The log holds no number and no id, only pseudonyms made with
a key that never leaves the database. The store keeps the log; `replay` evaluates it.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from hashlib import blake2b
from typing import Any

from precall.core.model import ABNORMAL, BindingState, Row
from precall.core.numbers import canonical

_SPAN = 2**64


class LogEvent(StrEnum):
    """What happened to a binding."""

    ADD = "add"
    DIAL = "dial"
    ANSWER = "answer"
    REMOVE = "remove"


@dataclass(frozen=True, slots=True)
class DialRecord:
    """One line of the log.

    `binding`, `x` and `face` are pseudonyms (16 hex digits). `face` is the published variant: "" for a normal route,
    else distinct for each abnormal route. `at` is in Unix seconds; `verified` marks a dial covered by a live check.
    """

    binding: str
    pool: str
    x: str
    kind: LogEvent
    face: str
    at: float
    verified: bool

    def plain(self) -> dict[str, Any]:
        """The line as it is stored and sent."""
        return asdict(self) | {"kind": self.kind.value}


def variant_of(state: BindingState) -> str:
    """The published variant of a route: "" when it is normal, not checked yet or over."""
    return state.temp_number or state.state.value if state.state in ABNORMAL else ""


class Sample:
    """A sample of all bindings, chosen by a keyed hash of their ids and thus the same after every restart.

    `share` is between 0 and 1. A smaller sample is a subset of every larger one with the same key.
    """

    def __init__(self, share: float, key: bytes) -> None:
        self._below = int(share * _SPAN)
        self._key = key

    def holds(self, subs_id: str) -> bool:
        """Whether a binding is in the sample."""
        return self._below > 0 and int.from_bytes(self._digest("binding", subs_id)) < self._below

    def event(self, row: Row, kind: LogEvent, at: float, *, verified: bool = False) -> DialRecord:
        """The log line for a binding in the sample, with the variant published now."""
        variant = variant_of(row.state)
        return DialRecord(
            binding=self._digest("binding", row.binding.subs_id).hex(),
            pool=row.binding.pool_key,
            x=self._digest("x", canonical(row.binding.number_x)).hex(),
            kind=kind,
            face=variant and self._digest("face", variant).hex(),
            at=at,
            verified=verified,
        )

    def _digest(self, kind: str, text: str) -> bytes:
        return blake2b(f"{kind}:{text}".encode(), digest_size=8, key=self._key).digest()


def read(line: Mapping[str, Any]) -> DialRecord:
    """Reverse `DialRecord.plain`. Raises KeyError, TypeError or ValueError for anything else."""
    texts = [line[name] for name in ("binding", "pool", "x", "face")]
    at, verified = line["at"], line["verified"]
    if not all(isinstance(text, str) for text in texts) or not isinstance(verified, bool) or not texts[0]:
        raise ValueError("a value of another type")
    if isinstance(at, bool) or not 0 <= float(at) < _SPAN:
        raise ValueError("no time")
    binding, pool, x, face = texts
    return DialRecord(binding, pool, x, LogEvent(line["kind"]), face, float(at), verified)
