"""Judges of assumptions about answers. Pure."""

from collections.abc import Mapping

from precall.contact.evidence import (
    ContactEvidence,
    ContactFinding,
    ContactVerdict,
    Judge,
    confirmed,
    counted,
    not_seen,
    refuted,
)
from precall.contact.probes import ABOUT_LIVE, NOT_SERVED
from precall.core.model import Failure, Status
from precall.core.numbers import same


def _status_values(evidence: ContactEvidence) -> ContactFinding:
    odd = [call.code for call in evidence.statuses if call.code.startswith(("status_", "unknown_status"))]
    if odd:
        return refuted(", ".join(dict.fromkeys(odd)))
    seen = sorted({int(call.answer.status) for call in evidence.statuses if call.answer})
    if seen:
        return confirmed(f"seen: {', '.join(map(str, seen))}")
    return not_seen(evidence.record.skipped.get("survey", ""))


def _none(evidence: ContactEvidence, status: Status) -> str:
    """Why no answer has this Status: how many live bindings of the file were seen without it."""
    record = evidence.record
    answered = {call.subject.binding.subs_id for call, _ in record.answers(*Status)}
    if not answered:
        fallback = "no reply shows it" if record.subjects.live else "no live binding in the file"
        return record.skipped.get("survey", fallback)
    live = max(len(answered), len(record.subjects.live) + record.subjects.unused)
    found = (
        f"none of the live bindings with an answer ({len(answered)} of {live}) has Status {int(status)} now"
    )
    return "; ".join(filter(None, (found, _cut_short(evidence))))


def _cut_short(evidence: ContactEvidence) -> str:
    """Why some live bindings were not asked about; "" if all were."""
    return evidence.record.skipped.get("burst", "") if evidence.record.live_not_asked else ""


def _status_1(evidence: ContactEvidence) -> ContactFinding:
    found = [
        same(answer.called_no, call.subject.binding.number_x)
        for call, answer in evidence.record.answers(Status.NORMAL)
    ]
    if not found:
        return not_seen(_none(evidence, Status.NORMAL))
    return (
        confirmed("CalledNo is X")
        if all(found)
        else refuted(
            f"{found.count(False)} of {len(found)} {counted(found.count(False), 'differs', 'differ')} from X"
        )
    )


def _status_2(evidence: ContactEvidence) -> ContactFinding:
    found = [
        bool(answer.called_no)
        and not answer.malformed
        and not same(answer.called_no, call.subject.binding.number_x)
        for call, answer in evidence.record.answers(Status.TEMPORARY)
    ]
    if not found:
        return not_seen(_none(evidence, Status.TEMPORARY))
    if all(found):
        return confirmed("another number than X")
    have = counted(found.count(False), "has", "have")
    return refuted(f"{found.count(False)} of {len(found)} {have} X, or no number")


def _status_3(evidence: ContactEvidence) -> ContactFinding:
    found = [not answer.called_no for _, answer in evidence.record.answers(Status.UNREACHABLE)]
    if not found:
        return not_seen(_none(evidence, Status.UNREACHABLE))
    return confirmed("no number") if all(found) else refuted("a number came along")


def _extension(evidence: ContactEvidence) -> ContactFinding:
    found = [
        answer.extension == call.subject.binding.extension
        for call, answer in evidence.record.answers(Status.NORMAL, Status.TEMPORARY)
        if call.subject.binding.extension
    ]
    if not found:
        return not_seen(_no_extension(evidence))
    return confirmed("as in the file") if all(found) else refuted("missing, or another one than in the file")


def _no_extension(evidence: ContactEvidence) -> str:
    """Why no answer shows an extension, by the file rather than by what was asked."""
    record = evidence.record
    subjects = record.subjects
    having = [subject for subject in subjects.live if subject.binding.extension]
    if not having:
        first = f"none of the first {len(subjects.live)} live bindings"
        return f"{first if subjects.unused else 'no live binding'} of the file has an extension"
    if all(subject in record.live_not_asked for subject in having):
        return record.skipped.get("survey") or _cut_short(evidence) or "no reply shows it"
    return "no answer has a number of a live binding with an extension"


def _same_temporary(evidence: ContactEvidence) -> ContactFinding:
    again = evidence.record.of("again")
    if not again:
        return not_seen("")
    subs_id = again[0].subject.binding.subs_id
    numbers = [
        answer.called_no
        for call, answer in evidence.record.answers(Status.TEMPORARY)
        if call.subject.binding.subs_id == subs_id
    ]
    if len(numbers) < 2:
        return not_seen("its Status changed meanwhile")
    if all(same(number, numbers[0]) for number in numbers):
        return confirmed(f"the same number {len(numbers)} times")
    return refuted(f"{len(set(numbers))} numbers in {len(numbers)} answers: asking allocates")


def _call_no_optional(evidence: ContactEvidence) -> ContactFinding:
    call = evidence.last("live")
    if call is None:
        return not_seen("")
    if call.answer is not None:
        return confirmed("answered without it")
    if call.is_unknown_action:
        return not_seen(NOT_SERVED)
    if "callno" in call.code.lower():
        return refuted(call.outcome)
    return not_seen(evidence.record.skipped.get("live", "") or call.outcome)


def _call_no(probe: str) -> Judge:
    def judge(evidence: ContactEvidence) -> ContactFinding:
        call = evidence.last(probe)
        if call is None:
            return not_seen("")
        earlier = [
            one.answer
            for one in evidence.record.of(*ABOUT_LIVE)
            if one.subject == call.subject and one.answer is not None
        ]
        if call.answer is None or not earlier:
            return not_seen(call.outcome)
        before, now = earlier[-1], call.answer
        if before.status != now.status:
            return refuted(f"Status {int(now.status)} with it, {int(before.status)} without")
        if same(before.called_no, now.called_no) or before.called_no == now.called_no:
            number = "the same number" if now.called_no else "no number, as without it"
            return confirmed(f"Status {int(now.status)} and {number}")
        if _same_temporary(evidence)[0] is ContactVerdict.REFUTED:
            return not_seen("each answer has another temporary number anyway")
        return refuted(f"Status {int(now.status)}, but another number")

    return judge


# -- bindings that have ended or never were


def _expired(evidence: ContactEvidence) -> ContactFinding:
    call = evidence.last("expired")
    if call is None:
        return not_seen("")
    if call.answer is not None:
        return confirmed("Status 4") if call.answer.status is Status.EXPIRED else refuted(call.outcome)
    return refuted(call.outcome) if call.is_business else not_seen(call.outcome)


def _gone(probe: str) -> Judge:
    def judge(evidence: ContactEvidence) -> ContactFinding:
        call = evidence.last(probe)
        if call is None:
            return not_seen("")
        if call.failure is Failure.GONE:
            return confirmed(call.outcome)
        return refuted(call.outcome) if call.is_business else not_seen(call.outcome)

    return judge


def _unknown_pool(evidence: ContactEvidence) -> ContactFinding:
    call = evidence.last("unknown_pool")
    if call is None:
        return not_seen("")
    if call.failure is Failure.REFUSED and "pool" in call.code.lower():
        return confirmed(call.outcome)
    return refuted(call.outcome) if call.is_business else not_seen(call.outcome)


def _business_http(evidence: ContactEvidence) -> ContactFinding:
    refusals = [call for call in evidence.statuses if call.failure in (Failure.GONE, Failure.REFUSED)]
    refusals = [call for call in refusals if call.code.startswith(("isv.", "isp."))]
    if not refusals:
        return not_seen("")
    statuses = sorted({call.reply.http_status for call in refusals})
    return confirmed("HTTP 200") if statuses == [200] else refuted(f"HTTP {', '.join(map(str, statuses))}")


ANSWER_JUDGES: Mapping[str, Judge] = {
    "status_values": _status_values,
    "status_1": _status_1,
    "status_2": _status_2,
    "status_3": _status_3,
    "extension": _extension,
    "same_temporary": _same_temporary,
    "call_no_optional": _call_no_optional,
    "call_no_a": _call_no("call_no_a"),
    "call_no_b": _call_no("call_no_b"),
    "expired": _expired,
    "unbound": _gone("unbound"),
    "unknown_binding": _gone("unknown_binding"),
    "unknown_pool": _unknown_pool,
    "business_http": _business_http,
}
