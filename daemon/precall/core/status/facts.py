"""A snapshot of what the daemon knows about itself, its provider and its database. `judge` turns it into findings.

Moments are Unix seconds, spans are seconds; None stands for "not now" or "not known".
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from precall.core.limits.recent_checks import CheckTally
from precall.core.model import Promise, State
from precall.core.orders import OrderKind
from precall.core.role import Role
from precall.core.status.finding import FindingCode

NO_CHECKS = CheckTally(0, 0)


@dataclass(frozen=True, slots=True)
class FailedCall:
    """What the provider said, or what failed in its place: a code, its meaning in English, and the RequestId."""

    error: str = ""
    detail: str = ""
    request_id: str = ""


@dataclass(frozen=True, slots=True)
class ProviderFacts:
    """The provider and the account.

    `failing` is there while checks fail now, `degraded_since` while most do in transport, by `tally`. `failure` is the
    latest call that failed in transport, `refusal` the latest refusal of the account. Throttled calls less than a
    minute apart are one spell, begun at `throttled_since`. Rates are in calls per second.
    """

    rate: float = 0.0
    rate_configured: float = 0.0
    last_answer: float | None = None
    failing: CheckTally | None = None
    tally: CheckTally = NO_CHECKS
    failure: FailedCall = FailedCall()
    degraded_since: float | None = None
    refused_since: float | None = None
    refusal: FailedCall = FailedCall()
    throttled_since: float | None = None


@dataclass(frozen=True, slots=True)
class StoreFacts:
    """The database. `pending` rows wait for it. `error` is why it takes no writes."""

    down_since: float | None = None
    error: str = ""
    pending: int = 0


@dataclass(frozen=True, slots=True)
class FreshnessFacts:
    """The promise about the age of routes, and whether it is kept.

    `longest` is the age that no route exceeds at the rate allowed now, `limit` the age that none should exceed.
    `short`: `longest` breaks the promise. `stale_share` is there while too many of the dials of the last `window`
    seconds got too old a route. `rate_needed` would keep `max_age` for all routes.
    """

    promise: Promise = Promise.ALL
    max_age: float = 0.0
    longest: float = 0.0
    limit: float = 0.0
    oldest: float = 0.0
    short: bool = False
    rate_needed: float = 0.0
    stale_share: float | None = None
    dial_rate: float = 0.0
    window: float = 0.0


@dataclass(frozen=True, slots=True)
class BrakeFacts:
    """The exposure brake of one pool.

    `used` bindings of at most `cap` have turned to their real number within `window`; `held` wait. `engaged_since` is
    there while the cap is reached, whatever was ordered.
    """

    used: int = 0
    cap: int = 0
    held: int = 0
    window: float = 0.0
    engaged_since: float | None = None
    ordered: bool = False


@dataclass(frozen=True, slots=True)
class PoolFacts:
    """One pool with active bindings, counted by state.

    `oldest` is the age of its oldest route when the table was last swept.
    """

    pool_key: str
    bindings: int
    states: Mapping[State, int]
    brake: BrakeFacts = BrakeFacts()
    paused: bool = False
    oldest: float | None = None

    def share(self, state: State) -> float:
        """Return the share of the bindings in this state."""
        return self.states.get(state, 0) / self.bindings if self.bindings else 0.0


@dataclass(frozen=True, slots=True)
class OrderFacts:
    """A pause or a brake in force by order of an operator, and since when (Unix seconds; None: unknown).

    `pool_key` "" stands for all pools.
    """

    kind: OrderKind
    pool_key: str
    at: float | None = None


@dataclass(frozen=True, slots=True)
class SourceFacts:
    """The sync with the customer's database. `error` is why the latest one failed, `guard` why removals are refused."""

    error: str = ""
    guard: str = ""
    withheld: int = 0
    synced_at: float | None = None
    every: float = 0.0


@dataclass(frozen=True, slots=True)
class QueueFacts:
    """A message queue of the provider that cannot be read, by the type of its messages, and why."""

    kind: str
    error: str


@dataclass(frozen=True, slots=True)
class Examples:
    """Bindings in some trouble: how many, and the ids of a few."""

    count: int = 0
    subs_ids: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ProcessFacts:
    """The process. `lag` is there while the check loop is late.

    `reload_failed_at` is there while the latest reload was refused, with the number of its mistakes and the first of
    them. Clients begin to refuse `certificate_file` at `certificate_ends`.
    """

    lag: float | None = None
    reload_failed_at: float | None = None
    reload_mistakes: int = 0
    reload_error: str = ""
    certificate_file: str = ""
    certificate_ends: float | None = None


@dataclass(frozen=True, slots=True)
class StatusFacts:
    """Everything that findings are derived from.

    `bindings` are the active ones. `known` are the findings of the snapshot before, by code and pool, with the moment
    since when each has been known.
    """

    role: Role = Role.LEADING
    bindings: int = 0
    states: Mapping[State, int] = field(default_factory=dict)
    provider: ProviderFacts = ProviderFacts()
    store: StoreFacts = StoreFacts()
    freshness: FreshnessFacts = FreshnessFacts()
    pools: tuple[PoolFacts, ...] = ()
    orders: tuple[OrderFacts, ...] = ()
    source: SourceFacts | None = None
    queues: tuple[QueueFacts, ...] = ()
    unusable: Examples = Examples()
    disagreeing: Examples = Examples()
    process: ProcessFacts = ProcessFacts()
    known: Mapping[tuple[FindingCode, str], float] = field(default_factory=dict)
