"""The domain model: bindings, answers, states, overrides and routes.

It holds only frozen, slotted data; `state`, `route`, `registration`, `exposure` and `planner` make the decisions. Times
are Unix seconds, durations are seconds, ids and numbers are strings ("" for none).
"""

import enum
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum

from precall.core.orders import Order


class Status(IntEnum):
    """The status of a binding in QueryCallStatus (product page, SecretCallStatusDTO.Status)."""

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
    """The state of a binding. BLOCKED is shown in place of another state and never stored."""

    UNVERIFIED = "unverified"
    NORMAL = "normal"
    TEMPORARY = "temporary"
    FALLBACK = "fallback"
    EXPIRED = "expired"
    BLOCKED = "blocked"


ABNORMAL = frozenset({State.TEMPORARY, State.FALLBACK})
"""The states in which X does not work, and something else may be dialled."""


class Reason(StrEnum):
    """The reason for the action. A closed set, which may grow."""

    STATUS_1 = "status_1"
    STATUS_2 = "status_2"
    STATUS_3 = "status_3"
    STATUS_4 = "status_4"
    OBSERVED = "observed"
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
    """The classes of non-answers: why the provider could not be queried, or gave no answer.

    STALE: the nonce or token of the call was stale, or its caller was refused. The next call carries another one or
    none, so a single such reply says nothing about the binding or the account.
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
    """The registered facts of one number-privacy binding. Only a registration changes them.

    `generation` is the change index at which these parties got this X. It is never reused, so an answer about an
    earlier binding with the same id can be recognised. `sound` is False when a number looks valid but is known to be
    unusable, because an earlier version joined an extension to it.
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
    """An explicit answer of the provider about a binding.

    `called_no` is "" unless it is a well-formed number; `malformed` is set when the reply had something else there.
    """

    status: Status
    called_no: str = ""
    extension: str = ""
    request_id: str = ""
    malformed: bool = False

    def __repr__(self) -> str:
        return f"Answer(status={self.status:d}, request_id={self.request_id!r})"


@dataclass(frozen=True, slots=True)
class NonAnswer:
    """A query without an answer. It never changes a route.

    `code` is the provider's, or precall's own for a failure in transport or parsing ("timeout", "connect", "bad_json"
    ...). `detail` is safe to log: it holds no number and no secret. `retry_after` is in seconds, if given.
    """

    failure: Failure
    code: str
    detail: str = ""
    request_id: str = ""
    retry_after: float | None = None


@dataclass(frozen=True, slots=True)
class InEffect:
    """A reply of the substitute queries (QuerySubscriptionDetail, QuerySecretNoDetail): the binding is in effect.

    `x_sound`: X is bound, as it should be; otherwise it is unbound, locked, frozen or unknown. This is weaker than an
    `Answer`: it does not say whether calls reach X, and gives no number.
    """

    x_sound: bool
    request_id: str = ""


Reply = Answer | InEffect | NonAnswer


@dataclass(frozen=True, slots=True)
class BindingState:
    """What was observed of a binding within one generation. Only the checker changes it.

    `status`, `number`, `extension`, `checked_at` and `seq` are from the newest accepted answer. So is `request_id`, but
    only for Status 3, which may lead to an exposure. `status` is 0 before the first answer, when the provider reports
    the binding gone, and when it is NORMAL by the substitute queries alone (`InEffect`). `streak` counts equal answers
    in a row.

    `temp_*` is the newest temporary number ever reported, and when. `exposed_at` is when the brake allowed the real
    number (0: not yet). `gone_at` is the time of the first, unconfirmed "no such binding". `moves` are the times of the
    latest transitions, at most five.
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
    """Which number of its binding an override refers to.

    OWN is the number its action dials anyway, OBSERVED the X that the provider named with Status 1. LOST is a number
    stored by an earlier version that no longer belongs to the binding.
    """

    OWN = ""
    REGISTERED = "registered"
    OBSERVED = "observed"
    TEMPORARY = "temporary"
    LOST = "lost"


@dataclass(frozen=True, slots=True)
class Override:
    """An operator's override: `hold`, `dial_x` or `dial_temp_x`, with a number of the binding itself.

    It lasts until a time (None: until lifted), or until the end of its generation.
    """

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
    """A row of the routing table: facts, observations, the override, and their stored version and change index."""

    binding: Binding
    state: BindingState
    override: Override | None = None
    version: int = 0
    index: int = 0


@dataclass(frozen=True, slots=True)
class Would:
    """What the route of an observed pool would say if the pool were enforced. It never names a number."""

    action: Action
    reason: Reason


@dataclass(frozen=True, slots=True)
class Route:
    """The route given to a dispatcher.

    `age` is None before the first answer, and when it is unknown. `retry_after` is positive with `hold`. It was decided
    at `decided_at`, and time alone changes nothing of it but its age before `until` (inf: never). `would` is None
    unless the pool is only observed.
    """

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
    decided_at: float
    until: float
    would: Would | None = None

    def __repr__(self) -> str:
        return f"Route({self.subs_id}, {self.action}, reason={self.reason}, version={self.version})"


class Promise(StrEnum):
    """Which routes `max_age` is promised for: ALL of them, or those that are about to be dialled."""

    ALL = "all"
    DIAL = "dial"


EVERY_POOL = "*"
"""Stands for all pools where pools are named."""


@dataclass(frozen=True, slots=True)
class Policy:
    """The operator's routing policy, and how long observations are valid. Durations are in seconds.

    `observe` names the pools that are only observed: X is dialled there, and the route says what it would be.
    """

    unverified: Action = Action.DIAL_X
    fallback: Action = Action.DIAL_REAL
    confirm_real: int = 1
    temporary_ttl: float = 600.0
    real_ttl: float = 600.0
    x_ttl: float = 86_400.0
    skew: float = 5.0
    max_age: float = 300.0
    abnormal_max_age: float = 60.0
    promise: Promise = Promise.ALL
    observe: frozenset[str] = frozenset()

    def observes(self, pool_key: str) -> bool:
        """Whether this pool is only observed."""
        return pool_key in self.observe or EVERY_POOL in self.observe


class WriteCause(StrEnum):
    """The cause of a change of a row."""

    REGISTERED = "registered"
    CHECKED = "checked"
    OVERRIDE = "override"
    REMOVED = "removed"


@dataclass(frozen=True, slots=True)
class Check:
    """A completed QueryCallStatus call: when it was sent, how long it took, and its result.

    `result` is a value of `CheckResult` (`core.routing.state`); `number` is the one in the reply ("" for none).
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
    """A change of the stored table, committed before it is published.

    `row` is the new row (None: removed). `route` is the route at `at` for readers without a caller; a real number in it
    is withheld. `check` is the check that caused the change, if any. A `quiet` change does not affect the route (labels
    only) and is stored without an entry in the change feed. `left` is the previous pool of a binding that changed
    pools: readers of that pool see a removal at the previous version and index. `columns` are those of `row` that are
    stored; the observed ones also where a generation begins. `order` is the operator's order that caused the change, if
    any. `undoes` are the indexes of earlier changes that may have been stored although they were refused; their orders
    were not given.
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
    order: Order | None = None
    undoes: tuple[int, ...] = ()
    columns: ColumnGroup = field(kw_only=True)


@dataclass(frozen=True, slots=True)
class Exposure:
    """An audit record of one real number given to a reader.

    The number itself is not stored. The binding and the side (`a` or `b`) identify it, and a keyed hash finds it.
    """

    subs_id: str
    generation: int
    pool_key: str
    reader: str
    side: str
    reason: str
    request_id: str
    at: float
    number_hash: str = ""
