"""The recorded replies of a contact as evidence, and the three verdicts on an assumption. Pure."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from precall.contact.calls import AskedCall
from precall.contact.probes import ContactRecord
from precall.provider import STATUS


class ContactVerdict(StrEnum):
    """What a contact says about one assumption."""

    CONFIRMED = "confirmed"
    REFUTED = "refuted"
    NOT_SEEN = "not seen"


ContactFinding = tuple[ContactVerdict, str]


def confirmed(found: str) -> ContactFinding:
    return ContactVerdict.CONFIRMED, found


def refuted(found: str) -> ContactFinding:
    return ContactVerdict.REFUTED, found


def not_seen(why: str) -> ContactFinding:
    return ContactVerdict.NOT_SEEN, why


def counted(count: int, one: str, more: str) -> str:
    """The word that agrees with a number."""
    return one if count == 1 else more


@dataclass(frozen=True, slots=True)
class ContactEvidence:
    """The recorded calls, and how they were made."""

    record: ContactRecord
    timeout: float
    rate: float

    @property
    def calls(self) -> Sequence[AskedCall]:
        return self.record.calls

    @property
    def statuses(self) -> list[AskedCall]:
        return [call for call in self.calls if call.action == STATUS]

    def last(self, probe: str) -> AskedCall | None:
        """The last call of a probe; earlier ones were repeated."""
        return next(iter(reversed(self.record.of(probe))), None)


Judge = Callable[[ContactEvidence], ContactFinding]
