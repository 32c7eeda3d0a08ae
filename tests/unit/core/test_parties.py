"""A party's number is never dialled as X or as a temporary X, in any spelling.

It may come from a registration, an import, a source, a reply, an override, or a row stored by an earlier version.
"""

import json
from collections.abc import Iterator
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from precall.api.schemas.bindings import parse_batch
from precall.core.model import Action, Binding, BindingState, NumberRole, Override, Row, State
from precall.core.numbers import canonical
from precall.core.packing import pack, unpack
from precall.core.routing.registration import override_role, register
from precall.core.routing.route import decide
from precall.core.routing.state import advance
from precall.core.sync.columns import BadRow, Columns
from precall.provider.replies import read_status
from tests.support.builders import NOW, POLICY, A, B, X, binding
from tests.unit.core.test_numbers import parties, spellings

NAMES = ("subs_id", "pool_key", "number_x", "number_a", "number_b")
CALLERS = ("", X, A, B, "unknown")


def taken(facts: dict[str, str]) -> Iterator[Binding]:
    """The binding of these facts by each way in that takes it."""
    ((_, over_api),) = parse_batch([facts], 0)
    from_source = Columns(NAMES, None).read([facts[name] for name in NAMES])
    assert isinstance(over_api, Binding) is not isinstance(from_source, BadRow)
    if isinstance(over_api, Binding) and isinstance(from_source, Binding):
        yield over_api
        yield from_source


def check(row: Row, e164: str) -> None:
    """No route of this row has the number as one to be dialled without an audit."""
    for caller in CALLERS:
        route = decide(row, caller, POLICY, NOW)
        if route.action in (Action.DIAL_X, Action.DIAL_TEMP_X):
            assert canonical(route.number) != e164
            assert e164.removeprefix("86") not in route.number


@st.composite
def trouble(draw: st.DrawFn) -> tuple[str, str, str]:
    """(a party's number in E.164, one spelling of it, another)"""
    number = draw(parties())
    return f"{number.country_code}{number.national_number}", draw(spellings(number)), draw(spellings(number))


@given(trouble(), st.sampled_from(["number_a", "number_b"]))
def test_no_registration_makes_a_party_an_x(found: tuple[str, str, str], side: str) -> None:
    e164, registered, again = found
    facts = {"subs_id": "1", "pool_key": "FC1", "number_x": again, "number_a": A, "number_b": B} | {
        side: registered
    }
    assert list(taken(facts)) == []
    stored = binding(number_x=again.strip(), **{side: registered.strip()})
    check(Row(stored, BindingState()), e164)


@given(
    trouble(), st.sampled_from(["number_a", "number_b"]), st.sampled_from([1, 2]), st.sampled_from(NumberRole)
)
def test_no_reply_and_no_override_makes_a_party_an_x(
    found: tuple[str, str, str], side: str, status: int, means: NumberRole
) -> None:
    e164, registered, again = found
    facts = {"subs_id": "1", "pool_key": "FC1", "number_x": X, "number_a": A, "number_b": B} | {
        side: registered
    }
    told = {"Code": "OK", "RequestId": "R-1", "SecretCallStatusDTO": {"Status": status, "CalledNo": again}}
    reply = read_status(200, None, "application/json", json.dumps(told).encode())
    for made in taken(facts):
        _, row = register(None, made, POLICY, NOW, 1)
        step = advance(row.binding, row.state, reply, generation=1, seq=1, policy=POLICY, now=NOW, chance=0.5)  # type: ignore[arg-type]
        answered = replace(row, state=step.state)
        check(answered, e164)
        for action in (Action.DIAL_X, Action.DIAL_TEMP_X):
            assert override_role(answered, action, again) is None
            check(replace(answered, override=Override(action, means, None, "", 1, NOW)), e164)
            # An earlier version took the number for a temporary one, or for X, and stored it.
            seen = BindingState(State.TEMPORARY if status == 2 else State.NORMAL, status, again, "", NOW, 1)
            kept = replace(row, state=replace(seen, temp_number=again, temp_at=NOW))
            check(unpack("1", pack(kept)), e164)
            check(replace(kept, override=Override(action, means, None, "", 1, NOW)), e164)
