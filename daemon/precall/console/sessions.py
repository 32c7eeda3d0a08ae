"""Sessions of the console, in memory: a restart ends them.

A session is known by a random id that only the visitor's cookie has; here it is kept as a hash. It holds no rights of
its own: each request asks what its token allows now, so that it ends with its token.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

LONGEST = 12 * 3600.0
"""Seconds after which a session ends."""

MOST = 50
"""Sessions of one token at a time. A further one ends the oldest."""

_ID_BYTES = 32


@dataclass(frozen=True, slots=True)
class ConsoleSession:
    """A visitor who has shown a token. `token` is its digest, `began` is in seconds of the clock."""

    token: bytes
    began: float


class Sessions:
    """The sessions there are. `clock` is in seconds and never decreases; `secret` returns N random bytes in hex."""

    def __init__(self, clock: Callable[[], float], secret: Callable[[int], str]) -> None:
        self._clock, self._secret = clock, secret
        self._known: dict[bytes, ConsoleSession] = {}

    def __len__(self) -> int:
        return len(self._known)

    def begin(self, token: bytes) -> str:
        """Begin a session for the token with this digest. Returns its id, which nobody has seen before."""
        self._forget()
        own = [key for key, session in self._known.items() if session.token == token]
        for key in own[: max(0, len(own) - MOST + 1)]:
            del self._known[key]
        made = self._secret(_ID_BYTES)
        self._known[_key(made)] = ConsoleSession(token, self._clock())
        return made

    def find(self, session_id: str) -> ConsoleSession | None:
        """Return the session with this id, None if there is none or it is over."""
        session = self._known.get(_key(session_id))
        return None if session is None or self._is_over(session) else session

    def end(self, session_id: str) -> None:
        """End a session, if there is one."""
        self._known.pop(_key(session_id), None)

    def _forget(self) -> None:
        for key in [key for key, session in self._known.items() if self._is_over(session)]:
            del self._known[key]

    def _is_over(self, session: ConsoleSession) -> bool:
        return self._clock() - session.began >= LONGEST


def _key(session_id: str) -> bytes:
    return hashlib.sha256(session_id.encode("utf-8", "surrogateescape")).digest()
