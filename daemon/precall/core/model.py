"""The words of the domain as values: what is registered, what was answered, what is routed.

Only frozen, slotted data lives here; what follows from it is decided in `state`, `routing`, `registration`,
`exposure` and `planner`. Times are seconds since the Unix epoch (UTC), durations seconds, ids and numbers
strings ("" for none).
"""

import enum
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum


class Status(IntEnum):
    """What QueryCallStatus says of a binding (product page, SecretCallStatusDTO.Status)."""

    NORMAL = 1
    TEMPORARY = 2
    UNREACHABLE = 3
    EXPIRED = 4


class Action(StrEnum):
    """What a dispatcher must do now."""

    DIAL_X = "dial_x"
    DIAL_TEMP_X = "dial_temp_x"
    DIAL_REAL = "dial_real"
    HOLD = "hold"
    EXPIRED = "expired"


class State(StrEnum):
    """Where a binding stands. BLOCKED is only ever shown, never stored: it stands before another state."""

    UNVERIFIED = "unverified"
    NORMAL = "normal"
    TEMPORARY = "temporary"
    FALLBACK = "fallback"
    EXPIRED = "expired"
    BLOCKED = "blocked"


ABNORMAL = frozenset({State.TEMPORARY, State.FALLBACK})
"""The states in which X does not work, and something else may be dialled."""


class Reason(StrEnum):
    """Why the action is what it is. A closed set; it may grow."""

    STATUS_1 = "status_1"
    STATUS_2 = "status_2"
    STATUS_3 = "status_3"
    STATUS_4 = "status_4"
    IN_EFFECT = "in_effect"
    UNVERIFIED = "unverified"
    EXPIRED_LOCALLY = "expired_locally"
    GONE = "gone"
    BLOCKED = "blocked"
    OVERRIDE = "override"
    POLICY_HOLD = "policy_hold"
    UNCONFIRMED = "unconfirmed"
    EXPOSURE_BRAKE = "exposure_brake"
    UNKNOWN_CALLER = "unknown_caller"
    NO_TEMPORARY_NUMBER = "no_temporary_number"
    NO_FALLBACK_NUMBER = "no_fallback_number"
    AUDIT_UNAVAILABLE = "audit_unavailable"
    TOO_OLD = "too_old"
    REMOVED = "removed"
    UNUSABLE_NUMBER = "unusable_number"


class Flag(StrEnum):
    """What else a reader should know of a route; computed, never stored."""

    SUSPECT = "suspect"
    FLAPPING = "flapping"
    OVERRIDDEN = "overridden"
    DEGRADED = "degraded"
    UNSAVED = "unsaved"
    X_MISMATCH = "x_mismatch"
    NUMBER_WITHHELD = "number_withheld"
    API_DISAGREES = "api_disagrees"


class Failure(StrEnum):
    """Why the provider could not be asked, or did not say: the classes of non-answers.

    STALE: the question went out with a nonce or a token that had gone stale. The next one carries a new one, so a
    single such reply says nothing of the binding, nor of the account.
    """

    THROTTLED = "throttled"
    STALE = "stale"
    TRANSIENT = "transient"
    ACCOUNT = "account"
    REFUSED = "refused"
    GONE = "gone"
    MALFORMED = "malformed"


@dataclass(frozen=True, slots=True)
class Binding:
    """The registered facts of one number-privacy relation. They belong to whoever registered it.

    `generation` is the change index at which these parties got this X: never used twice, so that an answer
    to a question about an earlier binding of the same id can be told from one about this. `sound` is False where a
    number is known to be unusable although it looks like one: an earlier version joined an extension to it.
    """

    subs_id: str
    pool_key: str
    number_x: str
    number_a: str
    number_b: str = ""
    extension: str = ""
    expires_at: float | None = None
    labels: tuple[tuple[str, str], ...] = ()
    origin: str = "api"
    registered_at: float = 0.0
    generation: int = 0
    sound: bool = True

    def __repr__(self) -> str:
        return f"Binding({self.subs_id}, pool={self.pool_key}, generation={self.generation})"


@dataclass(frozen=True, slots=True)
class Answer:
    """What the provider explicitly says of a binding. `called_no` is "" unless it is a well-formed number;
    `malformed` says that something stood there that is none."""

    status: Status
    called_no: str = ""
    extension: str = ""
    request_id: str = ""
    malformed: bool = False

    def __repr__(self) -> str:
        return f"Answer(status={self.status:d}, request_id={self.request_id!r})"


@dataclass(frozen=True, slots=True)
class NonAnswer:
    """We could not ask, or were not told. It never changes a route.

    `code` is the provider's, or ours for what never reached it ("timeout", "connect", "bad_json" ...);
    `detail` is safe to log: it holds no number and no secret. `retry_after` is in seconds, when told.
    """

    failure: Failure
    code: str
    detail: str = ""
    request_id: str = ""
    retry_after: float | None = None


@dataclass(frozen=True, slots=True)
class InEffect:
    """What the substitute questions say of a binding that has not ended (QuerySubscriptionDetail, QuerySecretNoDetail).

    `x_sound`: X is bound, as it should be; otherwise it is said to be unbound, locked, frozen or unknown. Weaker than
    an `Answer`: whether calls reach X is not asked, and no number is told.
    """

    x_sound: bool
    request_id: str = ""


Reply = Answer | InEffect | NonAnswer


@dataclass(frozen=True, slots=True)
class BindingState:
    """What was observed of a binding within one generation. It belongs to the checker.

    `status`, `number`, `extension`, `checked_at`, `seq` are those of the newest accepted answer; `request_id`
    too, if it was Status 3, the one that may lead to an exposure (the history has every one). `status` is 0
    before the first, when the provider says that the binding is gone, and when it is NORMAL by the substitute
    questions alone (`InEffect`). `streak` counts equal answers in a
    row. `temp_*` is the newest temporary number ever told and when. `exposed_at` is when the brake let this
    binding turn to the real number (0: it has not). `gone_at` is the first "no such binding", still to be
    confirmed. `moves` are the times of the latest transitions, at most five.
    """

    state: State = State.UNVERIFIED
    status: int = 0
    number: str = ""
    extension: str = ""
    checked_at: float = 0.0
    seq: int = 0
    streak: int = 0
    temp_number: str = ""
    temp_extension: str = ""
    temp_at: float = 0.0
    exposed_at: float = 0.0
    gone_at: float = 0.0
    blocked: bool = False
    failures: int = 0
    moves: tuple[float, ...] = ()
    request_id: str = ""

    def __repr__(self) -> str:
        return f"BindingState({self.state}, status={self.status}, seq={self.seq}, streak={self.streak})"


class NumberRole(StrEnum):
    """Which number of its binding an override means: what the action dials by itself, the registered X, the X that the
    provider named with Status 1, or the temporary number. LOST: one of an earlier version, no longer the binding's."""

    OWN = ""
    REGISTERED = "registered"
    OBSERVED = "observed"
    TEMPORARY = "temporary"
    LOST = "lost"


@dataclass(frozen=True, slots=True)
class Override:
    """An operator's pin: `hold`, `dial_x` or `dial_temp_x`, with one of the numbers that the binding itself has, until
    a time (None: until lifted) or the end of its generation."""

    action: Action
    means: NumberRole
    until: float | None
    reason: str
    generation: int
    created_at: float
    created_by: str = ""

    def __repr__(self) -> str:
        return f"Override({self.action}, until={self.until}, generation={self.generation})"


@dataclass(frozen=True, slots=True)
class Row:
    """One row of the routing table: facts, observations, orders, and which stored version of them this is."""

    binding: Binding
    state: BindingState
    override: Override | None = None
    version: int = 0
    index: int = 0


@dataclass(frozen=True, slots=True)
class Route:
    """What a dispatcher is told. `age` is None before the first answer, and where it cannot be known; `retry_after` is
    above 0 with `hold`."""

    subs_id: str
    action: Action
    number: str
    extension: str
    state: State
    reason: Reason
    status: int
    checked_at: float
    age: float | None
    stale: bool
    retry_after: int
    flags: tuple[Flag, ...]
    expires_at: float | None
    version: int
    index: int

    def __repr__(self) -> str:
        return f"Route({self.subs_id}, {self.action}, reason={self.reason}, version={self.version})"


@dataclass(frozen=True, slots=True)
class Policy:
    """What the operator allows, and for how long observations hold. Durations in seconds."""

    unverified: Action = Action.DIAL_X
    fallback: Action = Action.DIAL_REAL
    confirm_real: int = 1
    temporary_ttl: float = 600.0
    real_ttl: float = 600.0
    x_ttl: float = 86_400.0
    skew: float = 5.0
    max_age: float = 300.0
    abnormal_max_age: float = 60.0


class WriteCause(StrEnum):
    """What made a row change."""

    REGISTERED = "registered"
    CHECKED = "checked"
    OVERRIDE = "override"
    REMOVED = "removed"


@dataclass(frozen=True, slots=True)
class Check:
    """One QueryCallStatus call that has ended: when it was sent, how long it took, what came back.

    `result` is a label from the closed set of `state.Result`; `number` is the one told ("" for none).
    """

    subs_id: str
    generation: int
    seq: int
    asked_at: float
    seconds: float
    result: str
    status: int = 0
    number: str = ""
    extension: str = ""
    code: str = "OK"
    request_id: str = ""

    def __repr__(self) -> str:
        return f"Check({self.subs_id}, seq={self.seq}, {self.result}, code={self.code})"


class ColumnGroup(enum.Flag):
    """Groups of stored columns. Each has one owner: the registration, the checker, the operator."""

    REGISTERED = enum.auto()
    OBSERVED = enum.auto()
    OVERRIDE = enum.auto()


COLUMNS_OF = {
    WriteCause.REGISTERED: ColumnGroup.REGISTERED | ColumnGroup.OVERRIDE,
    WriteCause.CHECKED: ColumnGroup.OBSERVED,
    WriteCause.OVERRIDE: ColumnGroup.OVERRIDE,
    WriteCause.REMOVED: ColumnGroup(0),
}
"""What a change of each cause writes. A new generation ends an override, so a registration owns those columns too."""


@dataclass(frozen=True, slots=True)
class Change:
    """One change of the stored table, to be committed before it is published.

    `row` is the row as it will stand (None: removed). `route` is what readers without a caller are told at `at`,
    its number withheld when it is a real one. `check` is the answer that caused it, if one did. A `quiet` change is
    none of the route (labels): it is stored without a row in the change feed. `left` is the pool the binding was in
    before, if it was another: readers of that pool are told that it was removed, at the version and index before.
    `columns` are those of `row` that are stored; observed ones also where a generation begins.
    """

    index: int
    at: float
    cause: WriteCause
    subs_id: str
    pool_key: str
    before: State | None
    row: Row | None
    route: Route
    check: Check | None = None
    quiet: bool = False
    left: str = ""
    columns: ColumnGroup = field(kw_only=True)


@dataclass(frozen=True, slots=True)
class Exposure:
    """One real number handed to a reader, for the audit. The number itself is not kept: the binding and the
    side (`a` or `b`) name it, and a keyed hash finds it."""

    subs_id: str
    generation: int
    pool_key: str
    reader: str
    side: str
    reason: str
    request_id: str
    at: float
    number_hash: str = ""
