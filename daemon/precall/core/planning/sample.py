"""The sampled log of dials and answers: which bindings are in it, and what is written down of them.

Either a binding's whole life is logged or nothing of it. No number and no id is: those stand there as pseudonyms, made
with a key that never leaves the database. Where the log is kept is the store's concern, what can be read from it
`core.replay`'s.
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
    """One line of the log. `binding`, `x` and `face` are pseudonyms (16 hex digits); `face` is "" for a normal route,
    else tells one abnormal route from another. `at` is in Unix seconds; `verified`: a dial whose route was just
    checked."""

    binding: str
    pool: str
    x: str
    kind: LogEvent
    face: str
    at: float
    verified: bool

    def plain(self) -> dict[str, Any]:
        """As it is stored and sent."""
        return asdict(self) | {"kind": self.kind.value}


def face_of(state: BindingState) -> str:
    """What is published of a binding, as far as its planner is concerned: "" is normal, or not asked yet, or over."""
    return state.temp_number or state.state.value if state.state in ABNORMAL else ""


class Sample:
    """A share (0 to 1) of all bindings, chosen by their ids and a secret: the same ones at every start. A smaller share
    is part of every larger one."""

    def __init__(self, share: float, key: bytes) -> None:
        self._below = int(share * _SPAN)
        self._key = key

    def holds(self, subs_id: str) -> bool:
        """Whether this binding is in it."""
        return self._below > 0 and int.from_bytes(self._digest("binding", subs_id)) < self._below

    def event(self, row: Row, kind: LogEvent, at: float, *, verified: bool = False) -> DialRecord:
        """The line to write of a binding in the sample, with what is published of it now."""
        face = face_of(row.state)
        return DialRecord(
            binding=self._digest("binding", row.binding.subs_id).hex(),
            pool=row.binding.pool_key,
            x=self._digest("x", canonical(row.binding.number_x)).hex(),
            kind=kind,
            face=face and self._digest("face", face).hex(),
            at=at,
            verified=verified,
        )

    def _digest(self, kind: str, text: str) -> bytes:
        return blake2b(f"{kind}:{text}".encode(), digest_size=8, key=self._key).digest()


def read(line: Mapping[str, Any]) -> DialRecord:
    """The reverse of `DialRecord.plain`. Raises KeyError, TypeError or ValueError for anything else."""
    texts = [line[name] for name in ("binding", "pool", "x", "face")]
    at, verified = line["at"], line["verified"]
    if not all(isinstance(text, str) for text in texts) or not isinstance(verified, bool) or not texts[0]:
        raise ValueError("a value of another type")
    if isinstance(at, bool) or not 0 <= float(at) < _SPAN:
        raise ValueError("no time")
    binding, pool, x, face = texts
    return DialRecord(binding, pool, x, LogEvent(line["kind"]), face, float(at), verified)
