"""The role of a daemon among those on the same database.

Only the leader checks and writes. The runtime sets the role, and all other code reads it:

    waiting  ->  standby   another daemon leads, and its table could be read
    waiting  ->  leading   the lead was free
    standby  ->  leading   the leader is gone
    leading  ->  fenced    another daemon has taken the lead: the daemon ends

The parts of a daemon are created for one role, and replaced when it changes. The only exception is the step from
leading to fenced. Each set of parts has its own `CurrentRole`, so parts created on standby never write.
"""

from dataclasses import dataclass
from enum import StrEnum


class Role(StrEnum):
    """What a daemon may do."""

    WAITING = "waiting"
    STANDBY = "standby"
    LEADING = "leading"
    FENCED = "fenced"


class WaitingFor(StrEnum):
    """What keeps a waiting daemon from answering."""

    TABLE = "table"
    DATABASE = "database"
    LEADER = "leader"


@dataclass(frozen=True, slots=True)
class Member:
    """A daemon on a database, with its last sign of life. Times are Unix seconds by the clock of the database.

    `id` is another one after each start. `address` is the first URL that it listens on. `fencing_token` is 0 unless it
    leads.
    """

    id: str
    host: str
    pid: int
    address: str
    version: str
    role: Role
    fencing_token: int = 0
    started_at: float = 0.0
    seen_at: float = 0.0

    @property
    def name(self) -> str:
        """Its host and process id, as people name it."""
        return f"{self.host}/{self.pid}"


class CurrentRole:
    """The role in force, shared by the parts that were made for it."""

    def __init__(self, role: Role = Role.LEADING) -> None:
        self._role = role
        self.waiting_for = WaitingFor.TABLE

    @property
    def value(self) -> Role:
        """The role now."""
        return self._role

    @property
    def leads(self) -> bool:
        """Whether checks and requests to write are this daemon's own."""
        return self._role is Role.LEADING

    def fence(self) -> None:
        """Give up the lead for good, because another daemon holds it. Any other role stays."""
        if self._role is Role.LEADING:
            self._role = Role.FENCED
