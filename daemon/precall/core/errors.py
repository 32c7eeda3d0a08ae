"""The exception hierarchy.

An exception means that precall itself cannot continue, or that a request cannot be honoured. A failed check is data
(`model.NonAnswer`), never an exception.

    PrecallError
    ├── ConfigError        the configuration cannot be used; `mistakes` lists every one     exit 3
    ├── StoreError         the database cannot be used as asked                             exit 3
    │   ├── StoreUnavailable   not now: refused, hung, locked, full                        503
    │   │   ├── OutcomeUnknown     connection lost during a commit, which may be stored
    │   │   └── LeadershipLost     another daemon leads; no later write succeeds            exit 5
    │   └── SchemaOutdated     its schema is not this version's; `precall migrate`
    ├── ListenError        the address cannot be bound                                      exit 3
    ├── OutOfReach         a daemon or the provider does not answer a client command        exit 4
    ├── OutputError        a file or standard output could not be written                   exit 74
    └── Refusal            a request that cannot be honoured; carries `code` and `field`    4xx
"""


class PrecallError(Exception):
    """The base class. Its text is a single readable line, without phone numbers or secrets."""


class ConfigError(PrecallError):
    """The configuration has mistakes. `mistakes` are lines "dotted.key: what is wrong and how to fix it"."""

    def __init__(self, mistakes: list[str]) -> None:
        super().__init__("\n".join(mistakes))
        self.mistakes = mistakes


class StoreError(PrecallError):
    """The database cannot be used as asked."""


class StoreUnavailable(StoreError):
    """The database does not accept this write now. Nothing of it was stored; a later attempt may succeed."""


class OutcomeUnknown(StoreUnavailable):
    """The connection was lost during a commit, which may or may not have taken effect.

    Repeating the write is always correct.
    """


class LeadershipLost(StoreUnavailable):
    """Another daemon has become the leader. Neither this write nor any later one is stored."""


class SchemaOutdated(StoreError):
    """The database's schema is not that of this version."""


class ListenError(PrecallError):
    """The address cannot be listened on."""


class OutOfReach(PrecallError):
    """The peer of a client command does not answer."""


class OutputError(PrecallError):
    """A file or standard output could not be written. `errno` is the system's reason, 0 when it gave none."""

    def __init__(self, text: str, errno: int = 0) -> None:
        super().__init__(text)
        self.errno = errno


class Refusal(PrecallError):
    """A request that cannot be honoured. `code` is stable and machine-readable; `field` names the faulty field."""

    def __init__(self, status: int, code: str, detail: str, field: str = "") -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.field = field
