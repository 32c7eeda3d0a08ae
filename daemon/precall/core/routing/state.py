"""The state machine of a binding: how a reply of the provider changes its state.

Every transition is in this file. `route` decides what a dispatcher must do in a state.

Theory of operation
-------------------
A reply is an answer or a non-answer.

An *answer* is the provider's explicit statement about the binding. It acts at once: no threshold, and whatever the
state before. The state follows from Status alone; the number in the answer does not influence it.

                  Status 1      Status 2       Status 3      Status 4      gone, confirmed
    any state     NORMAL        TEMPORARY      FALLBACK      EXPIRED       EXPIRED

    EXPIRED by Status 4 is final: only a new registration starts another generation.
    EXPIRED by gone is not: any explicit answer brings the binding back.

A *non-answer* (`Failure`) is evidence about the daemon, the network or the account. It never changes the facts that a
route is made of. It can only count failures, mark the binding as blocked, and set the time of the next check. One kind
can become an answer: "no such binding" (GONE). The first one schedules a second check some seconds later. If that one
says the same, the binding is expired.

Some accounts cannot use QueryCallStatus. For them the provider client calls two substitute actions, whose replies say
less:

- "The binding has ended" is as explicit as Status 4, and becomes an answer.
- "The binding is in effect" (`InEffect`) is weaker than Status 1: it does not say whether calls work, and contains no
  number. It brings X into service (from UNVERIFIED, or back from gone) and keeps it there. It never leads to TEMPORARY
  or FALLBACK. If QueryCallStatus has reported one of these, that report holds until it is too old to be dialled; only
  then X is dialled again.
- "X is unbound, locked or frozen" only makes the binding suspect. Locked concerns new bindings, and frozen is not
  documented; neither justifies dialling the real callee. The route stays, but X is not confirmed, so an X without an
  expiry time is no longer served after `x_ttl`.

Each query has a sequence number and belongs to a generation. A reply to an older query than the newest applied one, or
about an earlier generation, is dropped and counted as late.

Two decisions are made elsewhere: whether Status 3 may lead to the real number (`exposure`), and whether to believe that
a whole pool has no bindings (`outage`).
"""

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import assert_never

from precall.core.ages import Horizon, age_of
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

# All delays are in seconds.

FLAPPING_MOVES = 5
"""This many transitions within FLAPPING_WINDOW make a binding flapping."""
FLAPPING_WINDOW = 600.0

CONFIRM_AFTER = 2.0
"""Minimum delay of a confirming check. A random part of CONFIRM_SPREAD is added."""
CONFIRM_SPREAD = 3.0
GONE_AGAIN = (600.0, 3600.0)
"""Delays of the checks after a binding was confirmed as gone."""
BLOCKED_AGAIN = 300.0
"""Delay of the next check after the provider refused a query about this binding."""
BACKOFF_FIRST = 1.0
"""Ceiling of the first backoff. It doubles with each failure, up to BACKOFF_LIMIT; the delay is random below it."""
BACKOFF_LIMIT = 60.0
MALFORMED_FAST = (1.0, 2.0)
"""Delays after the first malformed replies; after that, MALFORMED_SLOW."""
MALFORMED_SLOW = 60.0

_STATE_OF = {
    Status.NORMAL: State.NORMAL,
    Status.TEMPORARY: State.TEMPORARY,
    Status.UNREACHABLE: State.FALLBACK,
    Status.EXPIRED: State.EXPIRED,
}


class CheckResult(StrEnum):
    """The result of a check: the label of `precall_checks_total`, and a column of the history."""

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
    """The effect of one reply, as data. The checker carries it out.

    `again`: seconds until the next check, or None if the planner may choose the time.
    `at_rest`: the planner must not schedule checks; only the one after `again` seconds is made, if any.
    `changed`: the stored row differs, apart from times and counters.
    """

    state: BindingState
    result: CheckResult
    changed: bool
    again: float | None = None
    at_rest: bool = False

    @property
    def answered(self) -> bool:
        """Whether the provider answered, so that the planner may choose the time of the next check."""
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
    """Return the effect of a reply on `state`.

    `generation` and `seq` are those of the query. `chance`, in [0, 1), randomizes delays. `gone_is_credible` is False
    while a whole pool reports its bindings as gone.
    """
    if generation != binding.generation or seq <= state.seq:
        return Step(state, CheckResult.LATE, changed=False)
    if isinstance(reply, NonAnswer):
        return _apply_failure(state, reply, seq, now, chance, gone_is_credible)
    expires = isinstance(reply, Answer) and reply.status is Status.EXPIRED
    if state.status == Status.EXPIRED and not expires:
        return Step(state, CheckResult.CONTRADICTED, changed=False, at_rest=True)
    if isinstance(reply, InEffect):
        return _apply_in_effect(state, reply, seq, policy, now)
    return _apply_answer(binding, state, reply, seq, policy, now, chance)


def flapping(state: BindingState, horizon: Horizon) -> bool:
    """Return whether there were more than four transitions in the last ten minutes."""
    return len(state.moves) == FLAPPING_MOVES and horizon.recent(state.moves[0], FLAPPING_WINDOW)


def usable(binding: Binding, called_no: str) -> str:
    """Return `called_no`, or "" if it is, or may be, the real number of A or B."""
    return "" if is_party(binding, called_no) else called_no


def is_party(binding: Binding, number: str) -> bool:
    """Return whether this is, or may be, the real number of A or B."""
    return may_be_same(number, binding.number_a) or may_be_same(number, binding.number_b)


def _apply_answer(
    binding: Binding, state: BindingState, answer: Answer, seq: int, policy: Policy, now: float, chance: float
) -> Step:
    """Apply an explicit answer."""
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
        moves=_append_move(state, _STATE_OF[answer.status], now),
        request_id=answer.request_id if answer.status == Status.UNREACHABLE else "",
    )
    unconfirmed = answer.status == Status.UNREACHABLE and streak < policy.confirm_real
    expired_once = answer.status == Status.EXPIRED and streak == 1
    return Step(
        after,
        CheckResult(f"status_{answer.status:d}"),
        changed=_route_facts(after, policy) != _route_facts(state, policy),
        again=_confirmation_delay(chance) if unconfirmed or expired_once else None,
        at_rest=answer.status == Status.EXPIRED,
    )


def _apply_in_effect(state: BindingState, reply: InEffect, seq: int, policy: Policy, now: float) -> Step:
    """Apply "in effect": confirm X, unless X is abnormal or a report of QueryCallStatus still holds."""
    result = CheckResult.IN_EFFECT if reply.x_sound else CheckResult.X_ABNORMAL
    after = replace(state, seq=seq, failures=0, gone_at=0.0, blocked=False)
    if is_gone(state):
        after = replace(after, state=State.UNVERIFIED, checked_at=0.0, streak=0)
    if reply.x_sound and state.state is State.NORMAL:
        after = replace(after, status=0, checked_at=now, streak=1 if state.status else state.streak + 1)
    elif reply.x_sound and not _abnormal_is_fresh(state, policy, now):
        moves = _append_move(state, State.NORMAL, now)
        after = BindingState(state=State.NORMAL, checked_at=now, seq=seq, streak=1, moves=moves)
    return Step(after, result, changed=_route_facts(after, policy) != _route_facts(state, policy))


def _abnormal_is_fresh(state: BindingState, policy: Policy, now: float) -> bool:
    """Return whether a TEMPORARY or FALLBACK reported by QueryCallStatus is recent enough to be dialled."""
    if state.state is State.TEMPORARY:
        return bool(state.temp_number) and age_of(state.temp_at, now) <= policy.temporary_ttl
    return state.state is State.FALLBACK and age_of(state.checked_at, now) <= policy.real_ttl


def _apply_failure(
    state: BindingState, reply: NonAnswer, seq: int, now: float, chance: float, gone_is_credible: bool
) -> Step:
    """Apply a non-answer: it sets the time of the next check, and never changes what to dial."""
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
            return _apply_gone(state, seq, now, chance, gone_is_credible)
        case _:
            assert_never(reply.failure)


def _apply_gone(state: BindingState, seq: int, now: float, chance: float, credible: bool) -> Step:
    """Apply "no such binding". The first reply is a doubt; the second one, if credible, expires the binding."""
    if state.status == Status.EXPIRED:
        return Step(state, CheckResult.GONE_UNCONFIRMED, changed=False, at_rest=True)
    if not credible:
        doubted = replace(state, failures=state.failures + 1, gone_at=0.0)
        again = min(BACKOFF_LIMIT, BACKOFF_FIRST * 2.0 ** min(state.failures, 16))
        return Step(doubted, CheckResult.GONE_DOUBTED, changed=False, again=again)
    was_gone = is_gone(state)
    if not was_gone and not state.gone_at:
        return Step(
            replace(state, gone_at=now),
            CheckResult.GONE_UNCONFIRMED,
            changed=False,
            again=_confirmation_delay(chance),
        )
    streak = state.streak + 1 if was_gone else 1
    after = BindingState(
        state=State.EXPIRED,
        checked_at=now,
        seq=seq,
        streak=streak,
        temp_number=state.temp_number,
        temp_extension=state.temp_extension,
        temp_at=state.temp_at,
        moves=_append_move(state, State.EXPIRED, now),
    )
    later = GONE_AGAIN[streak - 1] if streak <= len(GONE_AGAIN) else None
    return Step(after, CheckResult.GONE, changed=not was_gone, again=later, at_rest=True)


def is_gone(state: BindingState) -> bool:
    """Return whether the binding expired because the provider does not know it, rather than by Status 4."""
    return state.state is State.EXPIRED and state.status == 0


def _append_move(state: BindingState, to: State, now: float) -> tuple[float, ...]:
    if state.state in (to, State.UNVERIFIED):
        return state.moves
    return (*state.moves, now)[-FLAPPING_MOVES:]


def _confirmation_delay(chance: float) -> float:
    return CONFIRM_AFTER + CONFIRM_SPREAD * chance


def _route_facts(state: BindingState, policy: Policy) -> tuple[object, ...]:
    """Return the part of a state that decides a route, without times and counters. If it changes, the row does."""
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
