"""Sessions end in time, are bounded, and are never adopted from a visitor."""

from itertools import count

from precall.console.sessions import LONGEST, MOST, Sessions


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def sessions(clock: Clock) -> Sessions:
    ids = count()
    return Sessions(clock, lambda _bytes: f"id-{next(ids)}")


def test_a_session_is_found_until_it_is_over() -> None:
    clock = Clock()
    known = sessions(clock)
    begun = known.begin(b"token")
    clock.now = LONGEST - 1
    found = known.find(begun)
    assert found is not None
    assert found.token == b"token"
    clock.now = LONGEST
    assert known.find(begun) is None


def test_a_session_ends_at_logout() -> None:
    known = sessions(Clock())
    begun, other = known.begin(b"token"), known.begin(b"token")
    known.end(begun)
    assert known.find(begun) is None
    assert known.find(other) is not None


def test_an_id_that_was_not_given_out_is_no_session() -> None:
    known = sessions(Clock())
    known.begin(b"token")
    assert known.find("id-1") is None
    assert known.find("") is None
    assert known.find("\udcff") is None


def test_one_token_does_not_push_out_the_sessions_of_another() -> None:
    known = sessions(Clock())
    kept = known.begin(b"other")
    begun = [known.begin(b"token") for _ in range(MOST + 3)]
    assert [known.find(one) is None for one in begun] == [True] * 3 + [False] * MOST
    assert known.find(kept) is not None
    assert len(known) == MOST + 1


def test_sessions_that_are_over_take_no_room() -> None:
    clock = Clock()
    known = sessions(clock)
    for _ in range(10):
        known.begin(b"token")
    clock.now = LONGEST
    known.begin(b"another")
    assert len(known) == 1
