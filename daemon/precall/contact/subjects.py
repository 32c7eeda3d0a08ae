"""The bindings that a contact queries, by their expected state. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from precall.core.model import Binding

LABEL = "contact"
"""The label of a binding that says which subject it is: live, expired or unbound."""
MOST_LIVE = 7
"""Live bindings that a contact queries in search of each Status."""
UNKNOWN_SUBS_ID = "999999999999999999"
UNKNOWN_POOL = "FC999999999999"
UNKNOWN_X = "17000000000"
"""A well-formed id that belongs to no binding."""


class SubjectKind(StrEnum):
    """What a binding is expected to be."""

    LIVE = "live"
    EXPIRED = "expired"
    UNBOUND = "unbound"
    UNKNOWN = "unknown"
    UNKNOWN_POOL = "unknown_pool"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Subject:
    """A binding, and what it is expected to be."""

    kind: SubjectKind
    binding: Binding


NO_SUBJECT = Subject(SubjectKind.NONE, Binding("", "", "", ""))


@dataclass(frozen=True, slots=True)
class Subjects:
    """The bindings to query, without duplicates. At least one of them is from a file.

    `unused` is how many further live bindings the file has.
    """

    live: tuple[Subject, ...] = ()
    expired: Subject | None = None
    unbound: Subject | None = None
    unused: int = 0

    @property
    def given(self) -> tuple[Subject, ...]:
        return (*self.live, *(one for one in (self.expired, self.unbound) if one))

    @property
    def pool_key(self) -> str:
        """A pool that exists."""
        return self.given[0].binding.pool_key

    @property
    def unknown(self) -> Subject:
        """A binding that does not exist, in a pool that does."""
        return Subject(SubjectKind.UNKNOWN, Binding(UNKNOWN_SUBS_ID, self.pool_key, UNKNOWN_X, ""))

    @property
    def unknown_pool(self) -> Subject:
        """The first binding, in a pool that does not exist."""
        first = self.given[0].binding
        return Subject(
            SubjectKind.UNKNOWN_POOL, Binding(first.subs_id, UNKNOWN_POOL, first.number_x, first.number_a)
        )


def kind_of(binding: Binding, now: float) -> SubjectKind:
    """Return what a binding is expected to be: by its label, else by its expiry. An unknown label is a ValueError."""
    label = dict(binding.labels).get(LABEL, "")
    if label:
        if label not in (SubjectKind.LIVE, SubjectKind.EXPIRED, SubjectKind.UNBOUND):
            raise ValueError("should be live, expired or unbound")
        return SubjectKind(label)
    ended = binding.expires_at is not None and binding.expires_at <= now
    return SubjectKind.EXPIRED if ended else SubjectKind.LIVE


def chosen(bindings: Iterable[tuple[Binding, SubjectKind]]) -> Subjects:
    """Return the first bindings of each kind, as many as a contact needs."""
    live: dict[str, Subject] = {}
    first: dict[SubjectKind, Subject] = {}
    unused = 0
    for binding, kind in bindings:
        if kind is SubjectKind.LIVE and binding.subs_id not in live:
            if len(live) < MOST_LIVE:
                live[binding.subs_id] = Subject(kind, binding)
            else:
                unused += 1
        first.setdefault(kind, Subject(kind, binding))
    return Subjects(
        tuple(live.values()), first.get(SubjectKind.EXPIRED), first.get(SubjectKind.UNBOUND), unused
    )
