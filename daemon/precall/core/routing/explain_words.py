"""What the sentences of an explanation are made of, in one language. `explain` fills in the values."""

from collections.abc import Mapping
from dataclasses import dataclass

from precall.core.model import Action, Flag, Reason, State


@dataclass(frozen=True, slots=True)
class ExplainWords:
    """Sentences and phrases, with gaps in braces.

    `said` is by the status last answered, 0 for none; `said_plainly` is for a state without a status. `units` are those
    of a day, an hour, a minute and a second, and `days` is the plural of the first. `plans` has the planner's reasons
    for the next check, where they are told in other words than its own.
    """

    said: Mapping[int, str]
    said_plainly: Mapping[State, str]
    request_id: str
    why: Mapping[Reason, str]
    flags: Mapping[Flag, str]
    told: Mapping[Action, str]
    extension: str
    would: str
    never_kept: str
    kept_until: str
    holds_until: str
    from_now: str
    until: str
    no_check: str
    next_check: str
    next_at: str
    now: str
    due_in: str
    wrong: str
    unknown_time: str
    once: str
    times: str
    units: tuple[str, str, str, str]
    days: str
    plans: Mapping[str, str]
