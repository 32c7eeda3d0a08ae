"""Three-digit states: the provider's own meaning first, then SIP's phrase, then the class of the code."""

from http import HTTPStatus

import pytest

from precall.core.calls.causes import CAUSES, meaning
from precall.core.calls.sip import CLASSES, PHRASES, sip_meaning


@pytest.mark.parametrize(
    ("code", "text"),
    [
        ("502", "SIP 502 Bad Gateway"),
        ("404", "SIP 404 Not Found"),
        ("486", "SIP 486 Busy Here"),
        ("487", "SIP 487 Request Terminated"),
        ("603", "SIP 603 Decline"),
        ("180", "SIP 180 Ringing"),
        ("499", "SIP 499, client error: this server cannot carry out the request"),
        ("599", "SIP 599, server error: a server failed on a request that seems valid"),
        ("699", "SIP 699, global failure: no server can carry out the request"),
    ],
)
def test_three_digits_are_a_sip_code(code: str, text: str) -> None:
    assert meaning(code) == sip_meaning(code) == text


@pytest.mark.parametrize("code", ["400", "476", "482", "500"])
def test_the_meaning_given_by_the_provider_takes_precedence(code: str) -> None:
    assert meaning(code) == CAUSES[code]
    assert "SIP" not in meaning(code)


@pytest.mark.parametrize(
    "code", ["102", "127", "99", "700", "050", "50", "5020", "5O2", "٥٠٢", "", "200002", "x"]
)
def test_other_codes_are_not_sip_codes(code: str) -> None:
    assert sip_meaning(code) == ""
    assert "SIP" not in meaning(code)


def test_an_unknown_q850_cause_is_not_a_sip_code() -> None:
    assert meaning("100") == meaning("101") == "a cause that is not documented"


def test_every_phrase_has_a_class_and_the_form_of_a_phrase() -> None:
    assert all(code // 100 in CLASSES for code in PHRASES)
    assert all(phrase[0].isupper() and phrase.strip() == phrase for phrase in PHRASES.values())
    # SIP took these over from HTTP, where the standard library knows them.
    for code in (401, 402, 403, 404, 405, 406, 407, 408, 410, 415, 501, 502, 503):
        assert PHRASES[code] == HTTPStatus(code).phrase
