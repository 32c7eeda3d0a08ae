"""Why calls end: the provider's codes in plain words, and which of them can be the fault of the number dialled.

One table holds three vocabularies, whose codes do not overlap:

- the states of QueryCallDetailByCallId (six digits, from the carrier receipts of the voice service);
- the three-digit states reported by the switches behind it. Four have a meaning of the provider's own; any other is a
  SIP response code (`sip`);
- the Q.850 causes in SecretReport's `release_cause`.

The codes of SecretReport's `unconnected_cause` are small numbers too, so they carry a prefix (`unconnected`). The table
also holds the words by which a dispatcher reports an outcome.

Sources: the product pages of QueryCallDetailByCallId and of SecretReport, the voice service's pages on carrier
receipts and on intermediate states, ITU-T Q.850, RFC 3261.
"""

from enum import StrEnum

from precall.core.calls.sip import sip_meaning


class CallEnd(StrEnum):
    """How a call ended. Only in FAILED may the number be at fault."""

    CONNECTED = "connected"
    FAILED = "failed"
    NOT_CONNECTED = "not_connected"


RECLAIMED = "476"
"""The number was forcibly reclaimed and cannot be reached any more."""

CAUSES: dict[str, str] = {
    "200000": "answered, and listened to until the end",
    "200001": "answered, and hung up before the end",
    "200002": "the callee was busy",
    "200003": "it rang, and nobody answered",
    "200004": "the number is invalid",
    "200005": "the callee could not be reached: the carrier or the callee refused",
    "200006": "the voice file cannot be played",
    "200007": "the callee was out of service area",
    "200008": "no key was pressed in time",
    "200010": "the callee's phone was off",
    "200011": "the callee's line is suspended",
    "200012": "the call was lost in the network",
    "200130": "ended for another reason",
    "200100": "the call has ended normally",
    "200101": "calling",
    "200102": "answered, or the caller is connected and the callee is being called",
    "200103": "in conversation",
    "200201": "the callee's phone rings",
    "200104": "the caller is restricted",
    "200105": "the callee is restricted",
    "200111": "the callee refused the call",
    "200112": "the callee was busy",
    "200113": "the callee did not answer",
    "200116": "the callee's number is invalid",
    "200117": "the number to be displayed is invalid",
    "200118": "outside the hours the supplier places calls in",
    "200119": "the supplier's limit on the frequency of calls",
    "200120": "the callee was out of service area",
    "200121": "too many calls at once on the number",
    "300000": "a key was pressed",
    "9996": "the call was not set up, or is over",
    "999999": "an error within the provider",
    "400": "a network element was busy",
    "476": "the number was reclaimed by force",
    "482": "the callee cannot be reached",
    "500": "an error of the carrier",
    "1": "the number is not allocated",
    "3": "no route to the destination",
    "16": "ended normally",
    "17": "the callee was busy",
    "18": "the callee's phone did not respond",
    "19": "it rang, and nobody answered",
    "20": "the callee's phone was off or out of reach",
    "21": "the call was refused",
    "22": "the number has changed",
    "27": "the destination is out of order",
    "28": "the number is incomplete or of a wrong format",
    "31": "ended normally, without a further reason",
    "34": "no line was free",
    "38": "the network is out of order",
    "41": "a temporary failure of the network",
    "42": "the network was congested",
    "102": "a timer of the network ran out",
    "127": "an unspecified failure between networks",
    "unconnected_1": "the platform stopped the call: the caller is on a blacklist",
    "unconnected_2": "the platform stopped the call: no binding",
    "unconnected_3": "the platform stopped the call: a restriction",
    "unconnected_4": "not connected, for another reason",
    "failed": "reported as failed by the dispatcher",
    "connected": "reported as connected by the dispatcher",
    "busy": "reported as busy by the dispatcher",
    "no_answer": "reported as not answered by the dispatcher",
}

NO_DETAIL = (
    "another product placed it, it was placed on another day or by another account, or the voice robot or a handset"
    " placed it, whose calls QueryCallDetailByCallId does not cover"
)
"""Why the provider may know nothing of a call that ended some minutes ago."""

UNFINISHED = frozenset({"", "200101", "200102", "200103", "200201", "300000"})
"""States of a call that is still going on; "" when no state was given."""

AT_FAULT = frozenset(
    {"200004", "200005", "200012", "200117", "200121", "400", "476", "482", "500"}
    | {"1", "3", "27", "34", "38", "41", "42", "failed"}
)
"""Causes that can be the number's fault. Busy, unanswered, off, out of area and refused by the callee cannot."""

_ANSWERED = frozenset({"200000", "200001", "200100", "connected"})
"""Codes of an answered call, for use where the duration is unknown."""


def meaning(code: str) -> str:
    """The code in plain words; "" means that none was given."""
    if not code:
        return "not given"
    return CAUSES.get(code) or sip_meaning(code) or "a cause that is not documented"


def unconnected(cause: int) -> str:
    """The code for a value of SecretReport's `unconnected_cause`; "" for 0, a call that was not stopped.

    The platform's reasons for not connecting a call say nothing about the number: none of these codes is in `AT_FAULT`.
    """
    return f"unconnected_{cause}" if cause else ""


def judge(code: str, duration: float | None) -> CallEnd | None:
    """How a call with this state and duration (seconds; None: unknown) ended; None while it is going on."""
    return None if code in UNFINISHED else judge_ended(code, duration)


def judge_ended(code: str, duration: float | None) -> CallEnd:
    """As `judge`, for a call that is known to have ended."""
    if duration or (duration is None and code in _ANSWERED):
        return CallEnd.CONNECTED
    return CallEnd.FAILED if code in AT_FAULT else CallEnd.NOT_CONNECTED
