"""The provider's own advice on an error: `Recommend` in the reply, and the page of its error codes.

Only commands that show a reply use it. Nothing here classifies an error; that is done by `failures`. Recommend is text
of the provider, so it may echo numbers and secrets: it is redacted as other texts of the provider are.
"""

from dataclasses import dataclass

from precall.core.model import NonAnswer
from precall.provider.client import DETAIL
from precall.provider.console import DETAIL_ERRORS, STATUS_ERRORS
from precall.provider.endpoint import RawReply
from precall.provider.failures import TransportTrouble
from precall.provider.replies import content_of
from precall.telemetry.redaction import masked

LONGEST = 500
"""Maximum length of a Recommend in characters, as shown."""

_OURS = frozenset(TransportTrouble) - {TransportTrouble.UNKNOWN_CODE}
"""Codes that the provider did not send."""


@dataclass(frozen=True, slots=True)
class ErrorAdvice:
    """The redacted Recommend of an error, and the address of the page that explains its code; each "" for none."""

    recommend: str = ""
    page: str = ""


def error_advice(action: str, reply: RawReply, read: object) -> ErrorAdvice:
    """Return what the provider advises on its error. `read` is what a reader made of the reply to `action`.

    Empty for an answer, and for a failure without a code of the provider.
    """
    if not isinstance(read, NonAnswer) or read.code in _OURS:
        return ErrorAdvice()
    content = content_of(reply.headers.get("Content-Type", ""), reply.body)
    recommend = "" if isinstance(content, TransportTrouble) else _recommend(content, read.request_id)
    return ErrorAdvice(recommend, DETAIL_ERRORS if action == DETAIL else STATUS_ERRORS)


def _recommend(content: dict[str, object], request_id: str) -> str:
    given = content.get("Recommend", content.get("recommend"))
    if not isinstance(given, str):
        return ""
    text = "".join(one if one.isprintable() else " " for one in given).strip()
    # Recommend is often a link that holds the RequestId, which may be shown.
    parts = text.split(request_id) if request_id else [text]
    return request_id.join(map(masked, parts))[:LONGEST]
