"""The error tree. An error means that precall itself cannot go on, or that a request cannot be honoured;
a failed check is data (`model.NonAnswer`), never an error.

    PrecallError
    ├── ConfigError        the configuration cannot be used; `mistakes` lists every one     exit 3
    ├── StoreError         the database cannot be used as asked                             exit 3
    │   ├── StoreUnavailable   not now: refused, hung, locked, full                        503
    │   │   ├── OutcomeUnknown     lost in the very commit: it may be stored all the same
    │   │   └── Deposed            another daemon leads: never again                        exit 5
    │   └── SchemaOutdated     its schema is not this version's; `precall migrate`
    ├── ListenError        the address cannot be bound                                      exit 3
    ├── OutOfReach         a daemon or the provider does not answer a client command        exit 4
    ├── Unwritten          a file or standard output could not be written                   exit 74
    └── Refusal            a request that cannot be honoured; carries `code` and `field`    4xx
"""


class PrecallError(Exception):
    """The base: its text is one clear line for a person, without numbers or secrets."""


class ConfigError(PrecallError):
    """The configuration has mistakes. `mistakes` are lines "dotted.key: what is wrong and how to mend it"."""

    def __init__(self, mistakes: list[str]) -> None:
        super().__init__("\n".join(mistakes))
        self.mistakes = mistakes


class StoreError(PrecallError):
    """The database cannot be used as asked."""


class StoreUnavailable(StoreError):
    """The database does not take this write now; nothing of it was stored, trying later may do."""


class OutcomeUnknown(StoreUnavailable):
    """The database was lost in the very commit: what it was told may be stored all the same. Writing it again is
    always right."""


class LeadershipLost(StoreUnavailable):
    """Another daemon has taken the lead on this database: nothing of this write is stored, nor of any later one."""


class SchemaOutdated(StoreError):
    """The database's schema is not the one this version was written for."""


class ListenError(PrecallError):
    """The address cannot be listened on."""


class OutOfReach(PrecallError):
    """What a client command talks to does not answer."""


class OutputError(PrecallError):
    """A file or standard output could not be written. `errno` is the system's reason, 0 when it gave none."""

    def __init__(self, text: str, errno: int = 0) -> None:
        super().__init__(text)
        self.errno = errno


class Refusal(PrecallError):
    """A request that cannot be honoured. `code` is stable and machine-readable, `field` names the place."""

    def __init__(self, status: int, code: str, detail: str, field: str = "") -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.field = field
