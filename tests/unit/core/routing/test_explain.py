"""A route explained in sentences: every reason and flag, with the values that decided, and no real number."""

import re
from dataclasses import fields, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from precall.core.ages import Tick
from precall.core.model import Action, BindingState, Flag, NumberRole, Override, Policy, Reason, Row, State
from precall.core.planning.entries import CheckKind
from precall.core.planning.planner import Planner
from precall.core.routing.chinese import CHINESE
from precall.core.routing.english import ENGLISH
from precall.core.routing.explain import CheckPlan, explain, in_words
from precall.core.routing.explain_words import ExplainWords
from precall.core.routing.route import decide, hold, withhold
from precall.core.status.texts import Language
from tests.support.builders import NOW, POLICY, TEMP, A, B, X, observed, row
from tests.unit.core.routing.test_good_until import policies, rows

SOON = CheckPlan(3.0, "confirm: not before then", 0.0123)


def told(
    of: Row, policy: Policy = POLICY, *, plan: CheckPlan | None = SOON, language: Language = Language.EN
) -> str:
    route = withhold(decide(of, "", policy, NOW))
    return "\n".join(explain(of, route, policy, request_id="R-1", plan=plan, language=language))


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


def test_the_same_is_told_in_chinese() -> None:
    assert told(row(observed(State.TEMPORARY, age=90.0)), language=Language.ZH).splitlines() == [
        f"调度方被告知拨打临时 X：{TEMP}。",
        "按供应商的最新答复，平台暂时更换了 X。",
        "供应商上次答复：Status 2，X 已换成临时号码，1 分钟 30 秒前。其 RequestId 为 R-1。",
        "有效至 2026-09-21 14:21:50 UTC（8 分钟 30 秒后），除非检查、命令或登记使其改变。",
        "下次检查：3 秒后（再次确认，不会更早）。该路由现在有误的概率为 1.2 %。",
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


@pytest.mark.parametrize("kind", CheckKind)
def test_the_reason_of_every_planned_check_is_told_in_chinese(kind: CheckKind) -> None:
    planner = Planner(100.0)
    planner.add("1", Tick(0.0), pool="P", x=1, registered_at=0.0, checked_at=0.0, variant="")
    planner.schedule("1", 5.0, kind=kind)
    plan = planner.explain("1", Tick(0.0))
    assert plan is not None
    said = told(row(), plan=CheckPlan(5.0, plan.why, plan.wrong), language=Language.ZH).splitlines()[-1]
    assert plan.why not in said


def gaps(words: str) -> set[str]:
    return set(re.findall(r"\{(\w*)", words))


def test_both_languages_fill_the_same_gaps() -> None:
    for field in fields(ExplainWords):
        english, chinese = getattr(ENGLISH, field.name), getattr(CHINESE, field.name)
        if field.name == "plans" or isinstance(english, tuple):
            continue
        if isinstance(english, str):
            assert gaps(english) == gaps(chinese), field.name
        else:
            assert english.keys() == chinese.keys(), field.name
            for key, words in english.items():
                assert gaps(words) == gaps(chinese[key]), key


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


@given(of=rows, policy=policies, language=st.sampled_from(Language))
def test_sentences_hold_no_real_number_and_no_loose_end(of: Row, policy: Policy, language: Language) -> None:
    of = replace(of, binding=replace(of.binding, number_x=X))
    text = told(of, policy, language=language)
    for sentence in text.splitlines():
        assert sentence.endswith("." if language is Language.EN else "。")
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
