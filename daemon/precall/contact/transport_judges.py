"""Judges of assumptions about the transport: actions, signatures, formats, time and limits. Pure."""

from collections.abc import Mapping, Sequence
from email.utils import parsedate_to_datetime
from statistics import median

from precall.contact.calls import AskedCall
from precall.contact.evidence import (
    ContactEvidence,
    ContactFinding,
    Judge,
    confirmed,
    counted,
    not_seen,
    refuted,
)
from precall.core.model import Failure, NonAnswer
from precall.provider import DETAIL, NUMBER, SUBSCRIPTION, CallDetail

SKEW = 30.0
ENOUGH = 5
"""Calls at the configured rate that show something about it, at the least. A second's worth is needed in any case."""
REACHED = 0.9
"""Share of the configured rate that counts as this rate: pauses last a little longer than asked for."""
CLEARLY_BELOW = 0.8
"""Share of the configured rate. If throttling lets less through within a second, the rate is refuted."""


def _served(evidence: ContactEvidence) -> ContactFinding:
    for call in evidence.statuses:
        if call.is_business:
            return confirmed(call.outcome)
    unknown = [call for call in evidence.statuses if call.is_unknown_action]
    if unknown:
        return refuted(unknown[-1].outcome)
    return not_seen(evidence.statuses[-1].outcome if evidence.statuses else "")


def _substitutes(evidence: ContactEvidence) -> ContactFinding:
    calls = [call for call in evidence.calls if call.action in (SUBSCRIPTION, NUMBER)]
    unknown = [f"{call.action}: {call.outcome}" for call in calls if call.is_unknown_action]
    if unknown:
        return refuted(", ".join(dict.fromkeys(unknown)))
    works = {call.action for call in calls if call.is_business}
    if works == {SUBSCRIPTION, NUMBER}:
        return confirmed("both reply")
    return not_seen(calls[-1].outcome if calls else "")


def _signed(scheme: str) -> Judge:
    def judge(evidence: ContactEvidence) -> ContactFinding:
        calls = [call for call in evidence.calls if call.question.signature == scheme]
        if any(call.is_business for call in calls):
            return confirmed("accepted")
        bad = [call for call in calls if call.is_bad_signature]
        if bad and any(call.is_business for call in evidence.calls):
            return refuted(bad[-1].outcome)
        if bad:
            return not_seen(f"{bad[-1].outcome}; with a right secret it may be accepted")
        return not_seen(calls[-1].outcome if calls else "")

    return judge


def _formatted(form: str, first: bytes) -> Judge:
    def judge(evidence: ContactEvidence) -> ContactFinding:
        calls = [call for call in evidence.calls if call.question.format == form and call.is_business]
        if not calls:
            return not_seen("")
        others = [call for call in calls if not call.reply.body.lstrip().startswith(first)]
        return (
            refuted(f"{len(others)} of {len(calls)} came in another format")
            if others
            else confirmed("it does")
        )

    return judge


def _request_id(evidence: ContactEvidence) -> ContactFinding:
    """Judge by every reply, those of the gateway included."""
    calls = [call for call in evidence.calls if call.has_reply]
    without = [call.outcome for call in calls if not call.read.request_id]
    if not calls:
        return not_seen("")
    if without:
        lack = counted(len(without), "lacks", "lack")
        return refuted(
            f"{len(without)} of {len(calls)} replies {lack} it: {', '.join(dict.fromkeys(without))}"
        )
    return confirmed(f"all {len(calls)} replies have it" if calls[1:] else "the only reply has it")


def _clock(evidence: ContactEvidence) -> ContactFinding:
    """Judge by the reply with the least delay, whose Date is the most exact."""
    found = []
    for call in evidence.calls:
        try:
            dated = parsedate_to_datetime(call.reply.headers["Date"]).timestamp()
        except (KeyError, ValueError):
            continue
        found.append((call.reply.seconds, call.replied_at - dated))
    if not found:
        return not_seen("no reply has a Date")
    skew = min(found)[1]
    if abs(skew) <= SKEW:
        return confirmed("within a few seconds" if abs(skew) < 3 else f"{abs(skew):.0f} s off")
    return refuted(f"{abs(skew):.0f} s {'ahead of' if skew > 0 else 'behind'} the provider")


def _latency(evidence: ContactEvidence) -> ContactFinding:
    late = sum("timeout" in call.code for call in evidence.calls if not call.has_reply)
    times = [call.reply.seconds for call in evidence.calls if call.has_reply]
    if late:
        return refuted(f"{late} of {len(evidence.calls)} took longer than {evidence.timeout:g} s")
    if not times:
        return not_seen("")
    return confirmed(f"median {median(times) * 1000:.0f} ms, slowest {max(times) * 1000:.0f} ms")


def _unknown_action(evidence: ContactEvidence) -> ContactFinding:
    call = evidence.last("unknown_action")
    if call is None:
        return not_seen("")
    if call.is_unknown_action and call.reply.http_status == 404 and call.code.endswith(".NotFound"):
        return confirmed(call.outcome)
    return (
        refuted(call.outcome)
        if call.has_reply and call.failure is not Failure.THROTTLED
        else not_seen(call.outcome)
    )


def _throttled(calls: Sequence[AskedCall]) -> list[AskedCall]:
    return [call for call in calls if call.failure is Failure.THROTTLED]


def _rate(evidence: ContactEvidence) -> ContactFinding:
    paced = [call for call in evidence.calls if call.probe != "burst" and call.has_reply]
    throttled = _throttled(paced)
    if throttled:
        were = counted(len(throttled), "was", "were")
        return refuted(
            f"{len(throttled)} of {len(paced)} calls at no more than {evidence.rate:g} a second {were} throttled"
        )
    if len(paced) < ENOUGH:
        return not_seen("too few calls")
    pace = _pace(paced)
    burst = evidence.record.of("burst")
    found = f"{len(paced)} calls at {pace:.1f} a second, none throttled"
    if burst:
        found += f"; of {len(burst)} at once {len(_throttled(burst)) or 'none'}"
    let_through = sum(call.is_business for call in burst)
    if let_through >= evidence.rate:
        return confirmed(found)
    if _throttled(burst):
        # A limit for each second counts the calls before the burst as well.
        began = min(call.sent_at for call in burst)
        most = let_through + sum(began - call.sent_at < 1.0 for call in paced)
        if most < CLEARLY_BELOW * evidence.rate:
            return refuted(f"{found}: no more than {most} within a second")
    if len(paced) >= evidence.rate and pace >= REACHED * evidence.rate:
        return confirmed(found)
    return not_seen(f"{found}: {evidence.rate:g} a second were not reached")


def _pace(calls: Sequence[AskedCall]) -> float:
    """Return how many calls a second were sent, on average; 0 if it is unknown."""
    took = calls[-1].sent_at - calls[0].sent_at
    return (len(calls) - 1) / took if took > 0 else 0.0


def _throttling(evidence: ContactEvidence) -> ContactFinding:
    throttled = _throttled(evidence.calls)
    if not throttled:
        strange = [call for call in evidence.record.of("burst") if call.failure is Failure.MALFORMED]
        if strange:
            calls = counted(len(strange), "call", "calls")
            return refuted(f"{len(strange)} {calls} at once got {strange[-1].outcome}")
        return not_seen(_no_throttling(evidence))
    bare = [call for call in throttled if call.code == "http_429"]
    if bare:
        return refuted(bare[-1].outcome)
    return confirmed(", ".join(dict.fromkeys(call.outcome for call in throttled)))


def _no_throttling(evidence: ContactEvidence) -> str:
    burst = evidence.record.of("burst")
    if not burst[1:]:
        return "a single call was left, and not throttled" if burst else ""
    return f"{len(burst)} calls at once were not throttled"


def _retry_after(evidence: ContactEvidence) -> ContactFinding:
    throttled = _throttled(evidence.calls)
    given = [call.reply.headers.get("x-acs-retry-after") for call in throttled]
    given = [value for value in given if value]
    waits = sorted({call.retry_after for call in throttled if call.retry_after})
    if not given:
        return not_seen("a throttled call lacks it" if throttled else _no_throttling(evidence))
    if not waits:
        return refuted("it is no positive number of milliseconds")
    return confirmed(f"{waits[0]:g} to {waits[-1]:g} s" if waits[1:] else f"{waits[0]:g} s")


def _call_detail(evidence: ContactEvidence) -> ContactFinding:
    call = next((one for one in reversed(evidence.calls) if one.action == DETAIL), None)
    if call is None:
        return not_seen("")
    read = call.read
    if isinstance(read, CallDetail):
        return (
            confirmed("Code OK without Data")
            if read.data is None
            else refuted("Data about a call that never was")
        )
    known = isinstance(read, NonAnswer) and (call.is_business or call.is_unknown_action)
    return refuted(call.outcome) if known else not_seen(call.outcome)


TRANSPORT_JUDGES: Mapping[str, Judge] = {
    "served": _served,
    "substitutes": _substitutes,
    "acs3": _signed("acs3"),
    "rpc": _signed("rpc"),
    "json": _formatted("json", b"{"),
    "xml": _formatted("xml", b"<"),
    "request_id": _request_id,
    "clock": _clock,
    "latency": _latency,
    "unknown_action": _unknown_action,
    "rate": _rate,
    "throttling": _throttling,
    "retry_after": _retry_after,
    "call_detail": _call_detail,
}
