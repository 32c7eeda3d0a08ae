"""The verdict on each assumption from the replies of a contact: confirmed, refuted or not seen. Pure.

The texts repeat no number and no id of a binding.
"""

from dataclasses import dataclass

from precall.contact.answer_judges import ANSWER_JUDGES
from precall.contact.evidence import ContactEvidence, ContactFinding, ContactVerdict
from precall.contact.probes import ContactRecord
from precall.contact.transport_judges import TRANSPORT_JUDGES
from precall.provider.assumptions import ASSUMPTIONS, EVERY_CALL, Assumption

JUDGES = {**TRANSPORT_JUDGES, **ANSWER_JUDGES}
"""By the name of the assumption."""


@dataclass(frozen=True, slots=True)
class AssumptionFinding:
    """A verdict on one assumption: what was found, and what to do if it is refuted."""

    assumption: Assumption
    verdict: ContactVerdict
    found: str

    @property
    def hint(self) -> str:
        return self.assumption.hint if self.verdict is ContactVerdict.REFUTED else ""


def findings(record: ContactRecord, *, timeout: float, rate: float) -> list[AssumptionFinding]:
    """Return a finding for each assumption that a contact can see, in their order.

    `timeout` (seconds) and `rate` (calls per second) are those that the calls were made with.
    """
    evidence = ContactEvidence(record, timeout, rate)
    return [
        AssumptionFinding(assumption, *_seen(assumption, evidence))
        for assumption in ASSUMPTIONS
        if assumption.probe
    ]


def _seen(assumption: Assumption, evidence: ContactEvidence) -> ContactFinding:
    verdict, found = JUDGES[assumption.name](evidence)
    if verdict is not ContactVerdict.NOT_SEEN or found:
        return verdict, found
    if assumption.probe == EVERY_CALL:
        return verdict, "no reply shows it"
    return verdict, evidence.record.skipped.get(assumption.probe, "no reply shows it")
