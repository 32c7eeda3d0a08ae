"""What a reply of the provider makes of a binding's state. Every transition lives in this file; what a reader is
told of a state lives in `routing`.

Theory of operation
-------------------
An *answer* is the owner's explicit statement about the binding and acts at once: there is no threshold, whatever
state it finds. Four statuses lead to four states, by Status alone; the number that comes along decides nothing.

                  Status 1      Status 2       Status 3      Status 4      gone, confirmed
    any state     NORMAL        TEMPORARY      FALLBACK      EXPIRED       EXPIRED
    EXPIRED (4)   stays EXPIRED: Status 4 ends the generation, and only a registration starts another
    EXPIRED (gone) as any state: an explicit answer brings a binding back

A *non-answer* is evidence about us, the line or the account. It never touches what a route is made of; it may only
count, show BLOCKED, and say when to ask again. The one non-answer that can grow into an answer is "no such
binding": the second in a row, some seconds after the first, is taken as the provider's word.

Where QueryCallStatus is not to be had, two substitute questions are asked instead. That a binding has ended is as
explicit there as in Status 4, and is an answer. That it is *in effect* is less than Status 1: nothing is said of calls,
and no number is told. So it may bring X into service (from UNVERIFIED, or back from gone) and keep it there; what
QueryCallStatus said before, a temporary or a real number, holds for as long as it may be dialled without being
repeated, and only then gives way to X. It never turns TEMPORARY or FALLBACK on. An X that is said to be unbound,
locked or frozen is a suspicion and nothing more: locked concerns new bindings, frozen is nowhere defined, and "dial
the real callee" must never follow from an inference. The route stays, `suspect` shows, and X is not confirmed: an X
without an end is no longer served once its `x_ttl` is over.

Answers are ordered by the sequence number their question was sent under, and belong to the generation they asked
about. A reply that comes late on either count is dropped, and counted.

Two things are not decided here: whether Status 3 may turn to the real number (`exposure`, which has the pool in
view), and whether a pool that suddenly knows none of its bindings is to be believed (`outage`).
"""

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import assert_never

from precall.core.ages import age_of
from precall.core.model import (
    Answer,
    Binding,
    BindingState,
    Failure,
    InEffect,
    NonAnswer,
    Policy,
    Reply,
    State,
    Status,
)
from precall.core.numbers import may_be_same

FLAPPING_MOVES = 5
FLAPPING_WINDOW = 600.0

CONFIRM_AFTER = 2.0
CONFIRM_SPREAD = 3.0
GONE_AGAIN = (600.0, 3600.0)
BLOCKED_AGAIN = 300.0
BACKOFF_FIRST = 1.0
BACKOFF_LIMIT = 60.0
MALFORMED_FAST = (1.0, 2.0)
MALFORMED_SLOW = 60.0

_STATE_OF = {
    Status.NORMAL: State.NORMAL,
    Status.TEMPORARY: State.TEMPORARY,
    Status.UNREACHABLE: State.FALLBACK,
    Status.EXPIRED: State.EXPIRED,
}


class CheckResult(StrEnum):
    """How a check ended: the label of `precall_checks_total` and of a row of history."""

    STATUS_1 = "status_1"
    STATUS_2 = "status_2"
    STATUS_3 = "status_3"
    STATUS_4 = "status_4"
    IN_EFFECT = "in_effect"
    X_ABNORMAL = "x_abnormal"
    GONE = "gone"
    GONE_UNCONFIRMED = "gone_unconfirmed"
    GONE_DOUBTED = "gone_doubted"
    THROTTLED = "throttled"
    STALE = "stale"
    TRANSIENT = "transient"
    ACCOUNT = "account"
    REFUSED = "refused"
    MALFORMED = "malformed"
    LATE = "late"
    CONTRADICTED = "contradicted"


@dataclass(frozen=True, slots=True)
class Step:
    """What one reply amounts to. Data; the checker performs it.

    `again`: seconds until this binding must be asked again, None when the planner may choose.
    `at_rest`: no check but the one `again` names. `changed`: the stored row is another one now.
    """

    state: BindingState
    result: CheckResult
    changed: bool
    again: float | None = None
    at_rest: bool = False

    @property
    def answered(self) -> bool:
        """Whether the provider answered: the planner may choose when to ask again."""
        return self.result in ANSWERED


ANSWERED = frozenset(
    {
        CheckResult.STATUS_1,
        CheckResult.STATUS_2,
        CheckResult.STATUS_3,
        CheckResult.STATUS_4,
        CheckResult.GONE,
        CheckResult.IN_EFFECT,
        CheckResult.X_ABNORMAL,
    }
)


def advance(
    binding: Binding,
    state: BindingState,
    reply: Reply,
    *,
    generation: int,
    seq: int,
    policy: Policy,
    now: float,
    chance: float,
    gone_is_credible: bool = True,
) -> Step:
    """The step from `state` on `reply` to question `seq` about `generation`; `chance` is in [0, 1)."""
    if generation != binding.generation or seq <= state.seq:
        return Step(state, CheckResult.LATE, changed=False)
    if isinstance(reply, NonAnswer):
        return _excuse(state, reply, seq, now, chance, gone_is_credible)
    expires = isinstance(reply, Answer) and reply.status is Status.EXPIRED
    if state.status == Status.EXPIRED and not expires:
        return Step(state, CheckResult.CONTRADICTED, changed=False, at_rest=True)
    if isinstance(reply, InEffect):
        return _vouch(state, reply, seq, policy, now)
    return _accept(binding, state, reply, seq, policy, now, chance)


def flapping(state: BindingState, now: float) -> bool:
    """Whether there were more than four transitions in the last ten minutes."""
    return len(state.moves) == FLAPPING_MOVES and age_of(state.moves[0], now) <= FLAPPING_WINDOW


def usable(binding: Binding, called_no: str) -> str:
    """`called_no` if it may be dialled as a privacy number; "" when it is, or may be, A's or B's own."""
    return "" if is_party(binding, called_no) else called_no


def is_party(binding: Binding, number: str) -> bool:
    """Whether this is, or may be, the number of A or of B."""
    return may_be_same(number, binding.number_a) or may_be_same(number, binding.number_b)


def _accept(
    binding: Binding, state: BindingState, answer: Answer, seq: int, policy: Policy, now: float, chance: float
) -> Step:
    """An explicit answer acts at once, whatever it finds."""
    number = usable(binding, answer.called_no) if answer.status <= Status.TEMPORARY else ""
    extension = answer.extension if number else ""
    temporary = (state.temp_number, state.temp_extension, state.temp_at)
    if answer.status == Status.TEMPORARY and number:
        temporary = (number, extension, now)
    streak = state.streak + 1 if answer.status == state.status else 1
    after = BindingState(
        state=_STATE_OF[answer.status],
        status=int(answer.status),
        number=number,
        extension=extension,
        checked_at=now,
        seq=seq,
        streak=streak,
        temp_number=temporary[0],
        temp_extension=temporary[1],
        temp_at=temporary[2],
        exposed_at=state.exposed_at if answer.status == Status.UNREACHABLE else 0.0,
        moves=_moves(state, _STATE_OF[answer.status], now),
        request_id=answer.request_id if answer.status == Status.UNREACHABLE else "",
    )
    unconfirmed = answer.status == Status.UNREACHABLE and streak < policy.confirm_real
    expired_once = answer.status == Status.EXPIRED and streak == 1
    return Step(
        after,
        CheckResult(f"status_{answer.status:d}"),
        changed=_stored(after, policy) != _stored(state, policy),
        again=_soon(chance) if unconfirmed or expired_once else None,
        at_rest=answer.status == Status.EXPIRED,
    )


def _vouch(state: BindingState, reply: InEffect, seq: int, policy: Policy, now: float) -> Step:
    """The binding has not ended: X is confirmed, unless it is doubted or something better still holds."""
    result = CheckResult.IN_EFFECT if reply.x_sound else CheckResult.X_ABNORMAL
    heard = replace(state, seq=seq, failures=0, gone_at=0.0, blocked=False)
    if is_gone(state):
        heard = replace(heard, state=State.UNVERIFIED, checked_at=0.0, streak=0)
    if reply.x_sound and state.state is State.NORMAL:
        heard = replace(heard, status=0, checked_at=now, streak=1 if state.status else state.streak + 1)
    elif reply.x_sound and not _still_dialled(state, policy, now):
        moves = _moves(state, State.NORMAL, now)
        heard = BindingState(state=State.NORMAL, checked_at=now, seq=seq, streak=1, moves=moves)
    return Step(heard, result, changed=_stored(heard, policy) != _stored(state, policy))


def _still_dialled(state: BindingState, policy: Policy, now: float) -> bool:
    """Whether what QueryCallStatus said of a failing X has yet to grow too old."""
    if state.state is State.TEMPORARY:
        return bool(state.temp_number) and age_of(state.temp_at, now) <= policy.temporary_ttl
    return state.state is State.FALLBACK and age_of(state.checked_at, now) <= policy.real_ttl


def _excuse(
    state: BindingState, reply: NonAnswer, seq: int, now: float, chance: float, gone_is_credible: bool
) -> Step:
    """A non-answer says when to ask again, and never what to dial."""
    failed = replace(state, failures=state.failures + 1)
    match reply.failure:
        case Failure.THROTTLED:
            return Step(state, CheckResult.THROTTLED, changed=False, again=0.0)
        case Failure.STALE:
            return Step(state, CheckResult.STALE, changed=False, again=0.0)
        case Failure.ACCOUNT:
            return Step(state, CheckResult.ACCOUNT, changed=False, again=0.0)
        case Failure.TRANSIENT:
            ceiling = min(BACKOFF_LIMIT, BACKOFF_FIRST * 2.0 ** min(state.failures, 16))
            return Step(failed, CheckResult.TRANSIENT, changed=False, again=chance * ceiling)
        case Failure.MALFORMED:
            fast = state.failures < len(MALFORMED_FAST)
            again = MALFORMED_FAST[state.failures] if fast else MALFORMED_SLOW
            return Step(failed, CheckResult.MALFORMED, changed=False, again=again)
        case Failure.REFUSED:
            blocked = replace(failed, blocked=True)
            return Step(blocked, CheckResult.REFUSED, changed=not state.blocked, again=BLOCKED_AGAIN)
        case Failure.GONE:
            return _miss(state, seq, now, chance, gone_is_credible)
        case _:
            assert_never(reply.failure)


def _miss(state: BindingState, seq: int, now: float, chance: float, credible: bool) -> Step:
    """The provider knows no such binding: first a doubt; the second time, if the pool is credible, an answer."""
    if state.status == Status.EXPIRED:
        return Step(state, CheckResult.GONE_UNCONFIRMED, changed=False, at_rest=True)
    if not credible:
        doubted = replace(state, failures=state.failures + 1, gone_at=0.0)
        again = min(BACKOFF_LIMIT, BACKOFF_FIRST * 2.0 ** min(state.failures, 16))
        return Step(doubted, CheckResult.GONE_DOUBTED, changed=False, again=again)
    already = is_gone(state)
    if not already and not state.gone_at:
        return Step(
            replace(state, gone_at=now), CheckResult.GONE_UNCONFIRMED, changed=False, again=_soon(chance)
        )
    streak = state.streak + 1 if already else 1
    after = BindingState(
        state=State.EXPIRED,
        checked_at=now,
        seq=seq,
        streak=streak,
        temp_number=state.temp_number,
        temp_extension=state.temp_extension,
        temp_at=state.temp_at,
        moves=_moves(state, State.EXPIRED, now),
    )
    later = GONE_AGAIN[streak - 1] if streak <= len(GONE_AGAIN) else None
    return Step(after, CheckResult.GONE, changed=not already, again=later, at_rest=True)


def is_gone(state: BindingState) -> bool:
    """Expired because the provider knows no such binding, not because it said Status 4."""
    return state.state is State.EXPIRED and state.status == 0


def _moves(state: BindingState, to: State, now: float) -> tuple[float, ...]:
    if state.state in (to, State.UNVERIFIED):
        return state.moves
    return (*state.moves, now)[-FLAPPING_MOVES:]


def _soon(chance: float) -> float:
    return CONFIRM_AFTER + CONFIRM_SPREAD * chance


def _stored(state: BindingState, policy: Policy) -> tuple[object, ...]:
    """What of a state makes it another row: all that decides a route, and nothing that only ages."""
    return (
        state.state,
        state.status,
        state.number,
        state.extension,
        state.temp_number,
        state.temp_extension,
        state.blocked,
        state.exposed_at > 0.0,
        state.status == Status.UNREACHABLE and state.streak >= policy.confirm_real,
    )
