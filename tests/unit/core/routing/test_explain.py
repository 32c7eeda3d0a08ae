"""A route explained in sentences: every reason and flag, with the values that decided, and no real number."""

from dataclasses import replace

import pytest
from hypothesis import given

from precall.core.model import Action, BindingState, Flag, NumberRole, Override, Policy, Reason, Row, State
from precall.core.routing.explain import CheckPlan, explain, in_words
from precall.core.routing.route import decide, hold, withhold
from tests.support.builders import NOW, POLICY, TEMP, A, B, X, observed, row
from tests.unit.core.routing.test_good_until import policies, rows

SOON = CheckPlan(3.0, "confirm: not before then", 0.0123)


def told(of: Row, policy: Policy = POLICY, *, plan: CheckPlan | None = SOON, request_id: str = "R-1") -> str:
    route = withhold(decide(of, "", policy, NOW))
    return "\n".join(explain(of, route, policy, request_id=request_id, plan=plan))


def test_a_temporary_number_is_explained_whole() -> None:
    assert told(row(observed(State.TEMPORARY, age=90.0))).splitlines() == [
        f"Dispatchers are told to dial the temporary X: {TEMP}.",
        "The platform has replaced X for a while, by the provider's last answer.",
        (
            "The provider last answered Status 2, X is replaced by a temporary number, 1 min 30 s ago. Its"
            " RequestId is R-1."
        ),
        (
            "It holds until 2026-09-21 14:21:50 UTC, 8 min 30 s from now, unless a check, an order or a"
            " registration changes it."
        ),
        "Next check: in 3 s (confirm: not before then). The route is wrong now with a probability of 1.2 %.",
    ]


@pytest.mark.parametrize(
    ("of", "policy", "part"),
    [
        (row(), POLICY, f"dial X: {X}."),
        (row(extension="12"), POLICY, f"dial X: {X}, extension 12."),
        (row(), Policy(unverified=Action.HOLD), "policy.unverified is hold"),
        (row(expires_at=NOW + 3.0), POLICY, "it ends at 2026-09-21 14:13:23 UTC, and policy.skew takes off 5 s"),
        (row(observed(State.TEMPORARY, age=900.0)), POLICY, "within policy.temporary_ttl, 10 min"),
        (row(observed(State.FALLBACK, age=900.0)), POLICY, "within policy.real_ttl, 10 min"),
        (row(observed(State.NORMAL, age=90_000.0), expires_at=None), POLICY, "within policy.x_ttl, 1 day"),
        (row(observed(State.FALLBACK)), Policy(fallback=Action.HOLD), "policy.fallback is hold"),
        (row(observed(State.FALLBACK)), Policy(confirm_real=2), "once in a row, and policy.confirm_real asks for 2"),
        (row(observed(State.FALLBACK, exposed_at=0.0)), POLICY, "exposure brake"),
        (row(observed(State.FALLBACK)), POLICY, "may not be kept"),
        (row(observed(State.FALLBACK)), Policy(observe=frozenset({"*"})), "the action would be dial_real"),
        (row(BindingState(state=State.NORMAL, checked_at=NOW - 2.0)), POLICY, "substitute query last said"),
        (row(BindingState(state=State.EXPIRED, checked_at=NOW - 2.0)), POLICY, "no such binding, 2 s ago"),
        (row(), POLICY, "has not answered yet"),
        (row(expires_at=NOW + 1e6), POLICY, "It holds until 2026-10-03 03:59:55 UTC, unless"),
        (
            replace(
                row(observed(State.NORMAL)),
                override=Override(Action.DIAL_TEMP_X, NumberRole.OWN, None, "", 1, NOW),
            ),
            POLICY,
            "within policy.temporary_ttl, 10 min",
        ),
        (
            replace(row(), override=Override(Action.HOLD, NumberRole.OWN, NOW + 60.0, "by 13800000001", 1, NOW)),
            POLICY,
            "override is in force until 2026-09-21 14:14:20 UTC",
        ),
    ],
)  # fmt: skip
def test_what_decided_is_named(of: Row, policy: Policy, part: str) -> None:
    assert part in told(of, policy)


def test_the_next_check_is_told_as_far_as_it_is_known() -> None:
    assert "No check is planned." in told(row(), plan=None)
    assert "Next check: now (first)." in told(row(), plan=CheckPlan(0.2, "first", 0.5))
    assert "Next check: when it is worth most." in told(
        row(), plan=CheckPlan(None, "when it is worth most", 0.5)
    )


@pytest.mark.parametrize("reason", Reason)
def test_every_reason_has_a_sentence(reason: Reason) -> None:
    route = hold(decide(row(), "", POLICY, NOW), reason)
    assert explain(row(), route, POLICY, request_id="", plan=None)[1].endswith(".")


@pytest.mark.parametrize("flag", Flag)
def test_every_flag_has_a_sentence(flag: Flag) -> None:
    plain = decide(row(), "", POLICY, NOW)
    flagged = replace(plain, flags=(flag,))
    without, with_it = (explain(row(), one, POLICY, request_id="", plan=None) for one in (plain, flagged))
    assert len(with_it) == len(without) + 1


@given(of=rows, policy=policies)
def test_sentences_hold_no_real_number_and_no_loose_end(of: Row, policy: Policy) -> None:
    of = replace(of, binding=replace(of.binding, number_x=X))
    text = told(of, policy)
    for sentence in text.splitlines():
        assert sentence.endswith(".")
        assert not set("{}") & set(sentence)
        assert "  " not in sentence
    assert A not in text
    assert B not in text


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.0, "0 s"),
        (0.25, "0.25 s"),
        (59.9, "59 s"),
        (60.0, "1 min"),
        (3725.0, "1 h 2 min"),
        (86_400.0, "1 day"),
        (180_000.0, "2 days 2 h"),
        (86_405.0, "1 day"),
    ],
)
def test_durations_in_words(seconds: float, words: str) -> None:
    assert in_words(seconds) == words
