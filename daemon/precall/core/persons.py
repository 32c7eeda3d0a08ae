"""What the routing table holds of a person, known by a phone number, and the row without it.

A person is party A or B of a binding. An X is no person: it is rented, and belongs to many bindings in turn. Beside the
parties, the number may stand in a label, or in the reason of an override. An observed number is never a real one.
"""

from dataclasses import dataclass, replace

from precall.core.model import Row
from precall.core.numbers import canonical, digit_runs, fault, same

SHORTEST = 7
"""A number with fewer digits is found in a text only where it stands alone."""


@dataclass(frozen=True, slots=True)
class Person:
    """A valid phone number, prepared for many comparisons. `digits` are in all of its spellings."""

    number: str
    digits: str

    @classmethod
    def of(cls, number: str) -> "Person":
        """Return the person with this valid number."""
        form = canonical(number)
        national = form.removeprefix("86")
        return cls(number, national if canonical(national) == form else form)

    def __repr__(self) -> str:
        return "Person(***)"

    def has(self, number: str) -> bool:
        """Whether a stored number is this one. So is one that is joined to other digits and therefore invalid."""
        if self.digits not in number:
            return False
        return same(number, self.number) or (len(self.digits) >= SHORTEST and fault(number) is not None)

    def is_in(self, text: str) -> bool:
        """Whether a free text contains this number, in any spelling."""
        runs = digit_runs(text)
        if len(self.digits) >= SHORTEST:
            return any(self.digits in run for run in runs)
        return any(same(run, self.number) for run in runs)


def sides(row: Row, person: Person) -> tuple[str, ...]:
    """Return which parties of its binding the person is: "a", "b", both or none."""
    parties = (("a", row.binding.number_a), ("b", row.binding.number_b))
    return tuple(side for side, number in parties if number and person.has(number))


def is_x(row: Row, person: Person) -> bool:
    """Whether the number is an X or a temporary X of this row."""
    return any(map(person.has, (row.binding.number_x, row.state.number, row.state.temp_number)))


def is_mentioned(row: Row, person: Person) -> bool:
    """Whether the number stands in a label of this row, or in the reason of its override."""
    if row.override is not None and person.is_in(row.override.reason):
        return True
    return any(person.is_in(value) or person.is_in(key) for key, value in row.binding.labels)


def unmentioned(row: Row, person: Person) -> Row:
    """Return the row without the person in its labels and the reason of its override; the same if it has none."""
    labels = tuple(
        (key, "" if person.is_in(value) else value)
        for key, value in row.binding.labels
        if not person.is_in(key)
    )
    override = row.override
    if override is not None and person.is_in(override.reason):
        override = replace(override, reason="")
    if labels == row.binding.labels and override is row.override:
        return row
    return replace(row, binding=replace(row.binding, labels=labels), override=override)
