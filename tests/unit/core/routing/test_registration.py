"""The effect of a registration on a row."""

from dataclasses import replace

import pytest

from precall.core.model import Action, NumberRole, Override, State
from precall.core.routing.registration import RegistrationOutcome, changes_route, override_role, register
from tests.support.builders import NOW, POLICY, TEMP, A, X, binding, observed, row


def test_a_new_binding_begins_a_generation_of_its_own() -> None:
    result, after = register(None, binding(generation=0, registered_at=0.0), POLICY, NOW, 77)
    assert (result, after.binding.generation, after.binding.registered_at) == (
        RegistrationOutcome.CREATED,
        77,
        NOW,
    )
    assert after.state.state is State.UNVERIFIED


def test_equal_content_changes_nothing() -> None:
    before = row(observed(State.TEMPORARY))
    result, after = register(before, binding(generation=0, registered_at=0.0), POLICY, NOW, 77)
    assert result is RegistrationOutcome.UNCHANGED
    assert after is before


def test_labels_change_only_labels() -> None:
    before = row(observed(State.TEMPORARY))
    result, after = register(before, binding(labels=(("city", "hz"),)), POLICY, NOW, 77)
    assert (result, after.binding.generation, after.state) == (RegistrationOutcome.UPDATED, 1, before.state)
    assert not changes_route(before, after)


@pytest.mark.parametrize(
    "facts",
    [
        {"number_x": "17000000002"},
        {"number_a": "13800000002"},
        {"number_b": "13900000002"},
        {"pool_key": "FC2"},
    ],
    ids=lambda facts: next(iter(facts)),
)
def test_other_parties_begin_a_new_generation(facts: dict[str, str]) -> None:
    pinned = replace(
        row(observed(State.NORMAL)), override=Override(Action.HOLD, NumberRole.OWN, None, "", 1, NOW)
    )
    result, after = register(pinned, binding(**facts), POLICY, NOW, 77)
    assert (result, after.binding.generation) == (RegistrationOutcome.UPDATED, 77)
    assert after.state.state is State.UNVERIFIED
    assert after.override is None
    assert after.version == pinned.version


@pytest.mark.parametrize("facts", [{"extension": "9"}, {"expires_at": NOW + 7200}])
def test_other_facts_keep_what_was_observed(facts: dict[str, object]) -> None:
    before = row(observed(State.TEMPORARY))
    _, after = register(before, binding(**facts), POLICY, NOW, 77)
    assert (after.binding.generation, after.state) == (1, before.state)
    assert changes_route(before, after)


@pytest.mark.parametrize(
    ("before", "end", "begins"),
    [
        (row(observed(State.EXPIRED)), NOW + 7200.0, True),
        (row(observed(State.EXPIRED)), None, True),
        (row(observed(State.EXPIRED)), NOW + 60.0, False),
        (row(observed(State.NORMAL), expires_at=NOW - 1), NOW + 60.0, True),
        (row(observed(State.NORMAL)), NOW + 7200.0, False),
    ],
)
def test_only_a_later_expiry_revives_an_expired_binding(
    before: object, end: float | None, begins: bool
) -> None:
    _, after = register(before, binding(expires_at=end), POLICY, NOW, 77)  # type: ignore[arg-type]
    assert (after.binding.generation == 77) is begins


@pytest.mark.parametrize(
    ("action", "number", "allowed"),
    [
        (Action.HOLD, "", True),
        (Action.HOLD, X, False),
        (Action.DIAL_X, "", True),
        (Action.DIAL_X, "+86" + X, True),
        (Action.DIAL_X, TEMP, False),
        (Action.DIAL_TEMP_X, "", True),
        (Action.DIAL_TEMP_X, TEMP, True),
        (Action.DIAL_TEMP_X, X, False),
        (Action.DIAL_REAL, A, False),
        (Action.EXPIRED, "", False),
    ],
)
def test_an_override_accepts_only_numbers_of_the_binding(action: Action, number: str, allowed: bool) -> None:
    assert (override_role(row(observed(State.TEMPORARY)), action, number) is not None) is allowed


def test_dial_temp_x_requires_a_temporary_number() -> None:
    assert override_role(row(observed(State.NORMAL)), Action.DIAL_TEMP_X, "") is None
