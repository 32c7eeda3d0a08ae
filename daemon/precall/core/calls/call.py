"""Placed calls: under which day the provider files one, when to ask about it, what several words about it come to.

A call is reported by the dispatcher that placed it, and its end is learnt from the provider's detail, from a pushed
receipt, or from the dispatcher itself. These come in any order and more than once. `merge` makes one call of them, the
same one whatever the order: the provider's word stands above the dispatcher's, and the dispatcher's above silence.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import zip_longest

from precall.core.calls.causes import over

DAY = 86_400
SHANGHAI = 8 * 3600
"""Seconds ahead of UTC, the whole year: China has kept no summer time since 1991."""
NEAR_MIDNIGHT = 600

RUNGS = (180.0, 300.0, 600.0, 1800.0, 3600.0)
"""Seconds after the call at which its detail is asked for; the provider has it 3 to 5 minutes after the call ended."""
HOURLY = 3600.0
GIVE_UP = 86_400.0
"""Seconds after a call from which on nothing more is expected of it."""


class CallResult(StrEnum):
    """What is known of a call."""

    PENDING = "pending"
    CONNECTED = "connected"
    FAILED = "failed"
    NOT_CONNECTED = "not_connected"
    UNVERIFIED = "unverified"


class CallSource(StrEnum):
    """Whose word it is."""

    NONE = ""
    DISPATCHER = "dispatcher"
    DETAIL = "detail"
    RECEIPT = "receipt"


@dataclass(frozen=True, slots=True)
class Call:
    """One placed call. `prod_id` is 0 where the provider cannot be asked about it. `route_state` is the state of its
    binding when it was dialled, "" if that was not known here. `state` is a code of `causes`. `detail` is a JSON object
    without numbers. `next_at` is when to ask, None: never again."""

    call_id: str
    called_at: float
    reported_at: float
    subs_id: str = ""
    prod_id: int = 0
    pool_key: str = ""
    route_state: str = ""
    result: CallResult = CallResult.PENDING
    source: CallSource = CallSource.NONE
    state: str = ""
    duration: float | None = None
    detail: str = "{}"
    next_at: float | None = None

    def upon(self, pool_key: str, route_state: str) -> "Call":
        """The same call, of a binding in this pool and state. Five times as fast as `replace`: receipts come by the
        thousand."""
        return Call(
            self.call_id,
            self.called_at,
            self.reported_at,
            self.subs_id,
            self.prod_id,
            pool_key,
            route_state,
            self.result,
            self.source,
            self.state,
            self.duration,
            self.detail,
            self.next_at,
        )


@dataclass(frozen=True, slots=True)
class NumberReport:
    """The provider's own word on an X: abnormal since `at`, or normal again."""

    number_x: str
    pool_key: str
    abnormal: bool
    at: float

    def __repr__(self) -> str:
        return f"NumberReport(pool={self.pool_key}, abnormal={self.abnormal})"


def merge(known: Call, told: Call) -> Call:
    """One call of two words about it. Commutative in all but `next_at`, where what is known goes before."""
    word = max(known, told, key=_weight)
    merged = replace(
        word,
        called_at=min(known.called_at, told.called_at),
        reported_at=min(known.reported_at, told.reported_at),
        subs_id=max(known.subs_id, told.subs_id),
        prod_id=max(known.prod_id, told.prod_id),
        pool_key=max(known.pool_key, told.pool_key),
        route_state=max(known.route_state, told.route_state),
        next_at=known.next_at if known.next_at is not None else told.next_at,
    )
    return replace(merged, next_at=None) if _settled(merged) else merged


def _weight(call: Call) -> tuple[int, float, str, str, str]:
    """Whose word counts more. What lies behind the first only has to be the same for everybody."""
    match call.source:
        case CallSource.DETAIL | CallSource.RECEIPT:
            rank = 3
        case CallSource.DISPATCHER:
            rank = 2
        case CallSource.NONE:
            rank = int(call.result is CallResult.UNVERIFIED)
    duration = -1.0 if call.duration is None else call.duration
    return rank, duration, call.state, call.source.value, call.detail


def _settled(call: Call) -> bool:
    """Whether there is nothing to ask any more. Of a failure that the dispatcher alone told, the cause is worth it."""
    if call.source in (CallSource.DETAIL, CallSource.RECEIPT):
        return True
    match call.result:
        case CallResult.CONNECTED | CallResult.NOT_CONNECTED | CallResult.UNVERIFIED:
            return True
        case CallResult.FAILED | CallResult.PENDING:
            return not call.prod_id


def seen(call: Call, outcome: str) -> Call:
    """The call with the dispatcher's word on how it ended (a word of `causes`)."""
    told = replace(call, result=CallResult(over(outcome, None)), source=CallSource.DISPATCHER, state=outcome)
    return replace(told, next_at=None) if _settled(told) else told


def first_try(called_at: float, now: float) -> float:
    """When to ask about a call for the first time."""
    return max(called_at + RUNGS[0], now)


def next_try(called_at: float, now: float) -> float | None:
    """When to ask again about a call of which nothing was told at `now`; None: it is given up. The last time is a day
    after the call."""
    age = now - called_at
    if age >= GIVE_UP:
        return None
    hours = (age // HOURLY + 1) * HOURLY
    return called_at + min(next((rung for rung in RUNGS if rung > age), hours), GIVE_UP)


def in_turn(oldest: Sequence[Call], newest: Sequence[Call], *, newest_first: bool) -> Iterator[Call]:
    """The longest due and the newest, by turns and each once: no backlog keeps a call of this minute waiting."""
    first, second = (newest, oldest) if newest_first else (oldest, newest)
    seen: set[str] = set()
    for pair in zip_longest(first, second):
        for call in pair:
            if call is not None and call.call_id not in seen:
                seen.add(call.call_id)
                yield call


def query_date(called_at: float) -> list[int]:
    """The values of QueryDate, in milliseconds, under which a call placed at `called_at` may be found, the likeliest
    first: midnight in Shanghai of its day, and of the day before when it was placed within ten minutes of midnight,
    since the provider files it by its own clock.

    Milliseconds, though the example on the product page of QueryCallDetailByCallId is in seconds: a value in
    seconds is a day in 1970, which is answered `OK` with nothing in it. Midnight, because the page reads "that day"
    and the newer documents read "the 24 hours after": both then mean the same.
    """
    since_midnight = (called_at + SHANGHAI) % DAY
    midnight = round(called_at - since_midnight)
    days = [midnight, midnight - DAY] if since_midnight < NEAR_MIDNIGHT else [midnight]
    return [day * 1000 for day in days]
