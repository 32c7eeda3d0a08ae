"""First contact with an account: a bounded plan of calls that examines what precall assumes about the provider."""

from precall.contact.evidence import ContactVerdict
from precall.contact.probes import PROBES, Contact, ContactClock, ContactRecord, Limits
from precall.contact.stand_ins import StandIns
from precall.contact.subjects import LABEL, Subject, SubjectKind, Subjects, chosen, kind_of
from precall.contact.transcript import Transcript
from precall.contact.verdicts import AssumptionFinding, findings

__all__ = [
    "LABEL",
    "PROBES",
    "AssumptionFinding",
    "Contact",
    "ContactClock",
    "ContactRecord",
    "ContactVerdict",
    "Limits",
    "StandIns",
    "Subject",
    "SubjectKind",
    "Subjects",
    "Transcript",
    "chosen",
    "findings",
    "kind_of",
]
