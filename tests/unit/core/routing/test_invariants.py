"""Invariants I1 to I6 and I10, over random histories of a binding.

They contain answers, failures, late replies, clock steps, registrations, removals and overrides, in any order.
"""

import contextlib
from dataclasses import replace

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from precall.core.model import (
    Action,
    Answer,
    Failure,
    InEffect,
    NonAnswer,
    Override,
    Policy,
    Reply,
    Route,
    Row,
    State,
    Status,
)
from precall.core.numbers import same
from precall.core.routing.exposure import turn_to_real
from precall.core.routing.registration import changes_route, override_role, register
from precall.core.routing.route import callee, decide, withhold
from precall.core.routing.state import CheckResult, advance
from tests.support.builders import NOW, TEMP, A, B, X, binding
from tests.support.examples import examples

NUMBERS = ["", X, TEMP, "17100000002", A, B, "+86" + A]
CALLERS = ["", A, B, "13700000000"]

answers = st.builds(
    Answer,
    status=st.sampled_from(Status),
    called_no=st.sampled_from(NUMBERS),
    extension=st.sampled_from(["", "12"]),
    request_id=st.just("R"),
)
non_answers = st.builds(NonAnswer, failure=st.sampled_from(Failure), code=st.just("c"))
substitutes = st.builds(InEffect, x_sound=st.booleans())
policies = st.builds(
    Policy,
    unverified=st.sampled_from([Action.DIAL_X, Action.HOLD]),
    fallback=st.sampled_from([Action.DIAL_REAL, Action.HOLD]),
    confirm_real=st.integers(1, 3),
)


class Life(RuleBasedStateMachine):
    """One binding, driven as the checker and the writer drive it."""

    @initialize(policy=policies, b=st.sampled_from([B, ""]), end=st.sampled_from([None, 1800.0]))
    def begin(self, policy: Policy, b: str, end: float | None) -> None:
        self.policy, self.now, self.seq, self.index, self.changes = policy, NOW, 0, 0, 0
        self.halted = False
        self.row: Row | None = None
        self.asked: list[tuple[int, int]] = []
        self.accepted: list[tuple[int, int]] = []
        self.answers: list[Answer] = []
        self.put(b, end)

    # -- what happens --------------------------------------------------------------------------------

    @rule(b=st.sampled_from([B, "", B]), end=st.sampled_from([None, 60.0, 1800.0]))
    def put(self, b: str, end: float | None) -> None:
        wanted = binding(number_b=b, expires_at=None if end is None else self.now + end)
        _, after = register(self.row, wanted, self.policy, self.now, self.index + 1)
        self.write(after)

    @rule(labels=st.sampled_from([(), (("a", "b"),)]))
    def label(self, labels: tuple[tuple[str, str], ...]) -> None:
        if self.row is not None:
            before = self.row
            _, after = register(
                before, replace(before.binding, labels=labels), self.policy, self.now, self.index + 1
            )
            self.write(after)
            assert (self.row.version, self.row.index) == (before.version, before.index)

    @rule()
    def remove(self) -> None:
        if self.row is not None:
            self.write(None)

    @rule(action=st.sampled_from(Action), number=st.sampled_from(NUMBERS), lasts=st.floats(1.0, 900.0))
    def pin(self, action: Action, number: str, lasts: float) -> None:
        if self.row is not None and (means := override_role(self.row, action, number)) is not None:
            order = Override(action, means, self.now + lasts, "", self.row.binding.generation, self.now)
            self.write(replace(self.row, override=order))

    @rule(halted=st.booleans())
    def halt(self, halted: bool) -> None:
        self.halted = halted

    @rule(seconds=st.floats(0.0, 1000.0))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def ask(self) -> None:
        if self.row is not None:
            self.seq += 1
            self.asked.append((self.seq, self.row.binding.generation))

    @rule(
        reply=st.one_of(answers, answers, substitutes, non_answers),
        place=st.integers(0, 5),
        admitted=st.booleans(),
    )
    def hear(self, reply: Reply, place: int, admitted: bool) -> None:
        """Apply a reply to any earlier query, in any order, from either source."""
        if self.row is None or not self.asked:
            return
        seq, generation = self.asked[place % len(self.asked)]
        before = self.row
        step = advance(
            before.binding,
            before.state,
            reply,
            generation=generation,
            seq=seq,
            policy=self.policy,
            now=self.now,
            chance=0.5,
        )
        after = step.state
        if step.result is CheckResult.LATE:
            assert after is before.state
        elif isinstance(reply, NonAnswer) and step.result is not CheckResult.GONE:
            self.nothing_moved(before, replace(before, state=after))
        elif step.answered:
            self.accepted.append((generation, seq))
            if isinstance(reply, Answer):
                self.answers.append(reply)
        if isinstance(reply, InEffect):
            self.nothing_but_x_began(before, replace(before, state=after))
        step = turn_to_real(before.binding, step, self.policy, self.now, has_room=admitted)
        after = step.state
        if step.changed:
            self.write(replace(before, state=after))
        else:
            self.row = replace(before, state=after)
            assert self.routes(self.row) == self.routes(replace(before, state=after))

    def nothing_moved(self, before: Row, after: Row) -> None:
        """I3: a non-answer does not change action and number, until expiry or a ttl does."""
        for caller in CALLERS:
            was = decide(before, caller, self.policy, self.now, halted=self.halted)
            now = decide(after, caller, self.policy, self.now, halted=self.halted)
            assert (was.action, was.number, was.extension) == (now.action, now.number, now.extension)

    def nothing_but_x_began(self, before: Row, after: Row) -> None:
        """The substitute questions lead to X, or to nothing new: no other number is dialled that was not before."""
        for caller in CALLERS:
            was = decide(before, caller, self.policy, self.now, halted=self.halted)
            now = decide(after, caller, self.policy, self.now, halted=self.halted)
            if now.action in (Action.DIAL_TEMP_X, Action.DIAL_REAL):
                assert (was.action, was.number) == (now.action, now.number)

    def write(self, after: Row | None) -> None:
        """What the writer does: I4 and I6 hang on it, and on what calls it."""
        before = self.row
        if after is before:
            return
        self.index += 1
        self.changes += 1
        if after is not None and changes_route(before, after):
            after = replace(after, version=after.version + 1, index=self.index)
            if before is not None:
                assert after.version > before.version
                assert after.index > before.index
        self.row = after

    # -- invariants --------------------------------------------------------------------------------------

    def routes(self, row: Row) -> list[Route]:
        return [decide(row, caller, self.policy, self.now, halted=self.halted) for caller in CALLERS]

    @invariant()
    def a_privacy_number_is_ours_and_young(self) -> None:
        """I1."""
        row = getattr(self, "row", None)
        for route in self.routes(row) if row else ():
            if route.action not in (Action.DIAL_X, Action.DIAL_TEMP_X):
                continue
            end = row.binding.expires_at
            assert route.number
            assert not same(route.number, row.binding.number_a)
            assert not same(route.number, row.binding.number_b)
            assert end is None or self.now < end
            if route.action is Action.DIAL_TEMP_X:
                assert self.now - row.state.temp_at <= self.policy.temporary_ttl
            elif end is None:
                seen = row.state.checked_at or row.binding.registered_at
                assert self.now - seen <= self.policy.x_ttl

    @invariant()
    def a_real_number_leaves_only_when_all_allow_it(self) -> None:
        """I2."""
        row = getattr(self, "row", None)
        for caller, route in zip(CALLERS, self.routes(row), strict=True) if row else ():
            ours = (row.binding.number_a, row.binding.number_b)
            real = any(same(number, route.number) for number in ours)
            assert real is (route.action is Action.DIAL_REAL)
            if not real:
                continue
            assert row.state.status == Status.UNREACHABLE
            assert self.answers[-1].status is Status.UNREACHABLE
            assert self.policy.fallback is Action.DIAL_REAL
            assert row.state.exposed_at
            assert not self.halted
            assert callee(row.binding, caller) in (("a", route.number), ("b", route.number))
            assert not same(caller, route.number)

    @invariant()
    def accepted_answers_rise(self) -> None:
        """I5."""
        for (generation, seq), (later_generation, later_seq) in zip(
            getattr(self, "accepted", []), getattr(self, "accepted", [])[1:], strict=False
        ):
            assert later_generation >= generation
            assert later_generation > generation or later_seq > seq

    @invariant()
    def nothing_that_may_be_logged_holds_a_number(self) -> None:
        """I10 for the core: repr of values that may be logged or raised contains no number."""
        row = getattr(self, "row", None)
        if row is None:
            return
        shown = [
            repr(row),
            repr(row.binding),
            repr(row.state),
            repr(row.override),
            *map(repr, self.routes(row)),
        ]
        for number in (A, B, X, TEMP):
            assert all(number not in text for text in shown)
        for route in self.routes(row):
            assert withhold(route).number not in {row.binding.number_a, row.binding.number_b} - {""}

    @invariant()
    def a_stored_state_is_never_blocked(self) -> None:
        with contextlib.suppress(AttributeError):
            assert self.row is None or self.row.state.state is not State.BLOCKED


Life.TestCase.settings = settings(examples(60, 5000), stateful_step_count=30)
TestLife = Life.TestCase
