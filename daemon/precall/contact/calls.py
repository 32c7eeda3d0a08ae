"""One call of a contact, and how its reply is read. Pure."""

import re
from dataclasses import dataclass, field
from typing import Literal

from precall.contact.subjects import Subject
from precall.core.model import Answer, Failure, InEffect, NonAnswer
from precall.provider import (
    DETAIL,
    NUMBER,
    SUBSCRIPTION,
    CallDetail,
    RawReply,
    read_detail,
    read_secret_no,
    read_status,
    read_subscription,
)
from precall.provider.sign import Format, Scheme

_UNKNOWN_ACTION = re.compile(
    r"(?:Invalid(?:Api|Action)|InvalidVersion|NoSuchVersion).*|http_404", re.IGNORECASE
)
_BAD_SIGNATURE = re.compile(
    r"SignatureDoesNotMatch|IncompleteSignature|(?:Invalid|Missing)Signature.*|MissingAccessKeyId",
    re.IGNORECASE,
)
_READERS = {
    SUBSCRIPTION: read_subscription,
    NUMBER: read_secret_no,
    DETAIL: read_detail,
}
CallNo = Literal["none", "a", "b"]
Read = Answer | InEffect | CallDetail | NonAnswer


@dataclass(frozen=True, slots=True)
class Question:
    """A call that a probe requests. `call_no` is "none", "a" or "b"; `parameters` hold real numbers."""

    probe: str
    action: str
    parameters: dict[str, str] = field(repr=False)
    subject: Subject
    signature: Scheme
    format: Format
    call_no: CallNo = "none"


@dataclass(frozen=True, slots=True)
class AskedCall:
    """A call that was made, with its reply. `sent_at` and `replied_at` are Unix seconds."""

    question: Question
    sent_at: float
    replied_at: float
    reply: RawReply

    @property
    def probe(self) -> str:
        return self.question.probe

    @property
    def action(self) -> str:
        return self.question.action

    @property
    def subject(self) -> Subject:
        return self.question.subject

    @property
    def read(self) -> Read:
        return self.reply.read(_READERS.get(self.action, read_status))

    @property
    def answer(self) -> Answer | None:
        """The answer about a binding, if it is one."""
        read = self.read
        return read if isinstance(read, Answer) else None

    @property
    def code(self) -> str:
        read = self.read
        return read.code if isinstance(read, NonAnswer) else "OK"

    @property
    def failure(self) -> Failure | None:
        read = self.read
        return read.failure if isinstance(read, NonAnswer) else None

    @property
    def retry_after(self) -> float | None:
        """Seconds, if the reply says how long to wait."""
        read = self.read
        return read.retry_after if isinstance(read, NonAnswer) else None

    @property
    def is_business(self) -> bool:
        """Whether the action itself replied, which proves key, signature and action."""
        return self.failure in (None, Failure.GONE, Failure.REFUSED)

    @property
    def is_unknown_action(self) -> bool:
        return _UNKNOWN_ACTION.fullmatch(self.code) is not None

    @property
    def is_bad_signature(self) -> bool:
        return _BAD_SIGNATURE.fullmatch(self.code) is not None

    @property
    def has_reply(self) -> bool:
        return self.reply.http_status > 0

    @property
    def outcome(self) -> str:
        """A short description of the reply, without any number."""
        if not self.has_reply:
            return self.code
        if self.answer is not None:
            return f"Status {int(self.answer.status)}"
        return f"HTTP {self.reply.http_status} {self.code}"
