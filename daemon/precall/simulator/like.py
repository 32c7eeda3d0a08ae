"""A simulated account that replays a transcript of `precall doctor --contact`.

A request is matched by action, binding, CallNo, format and signature. It gets the recorded replies in their order, then
the last of them, each after its recorded latency. What the transcript lacks gets the reply to the most similar request
in it or, if there is none, that of a simulation with the traits of the account: which actions it serves, the state of
its bindings, whether a query allocates. The guess is logged.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from precall.simulator.gateway import CalledAction
from precall.simulator.replies import JSON_TYPE, Reply
from precall.simulator.scenario import (
    QUERY_CALL_DETAIL,
    QUERY_CALL_STATUS,
    QUERY_NUMBER_DETAIL,
    QUERY_SUBSCRIPTION_DETAIL,
    Account,
    Binding,
    Fault,
    FaultKind,
    Pool,
    Replies,
    Scenario,
    ScenarioError,
)

VERSION = 1
LABEL = "contact"
"""The label under which a contact finds the kind of a binding."""
_CODE = re.compile(r'"[Cc]ode"\s*:\s*"([^"]+)"|<Code>([^<]+)</Code>')
_STATUS = re.compile(r'"Status"\s*:\s*"?([1-4])\b|<Status>([1-4])</Status>')
_CALLED_NO = re.compile(r'"CalledNo"\s*:\s*"([^"]+)"|<CalledNo>([^<]+)</CalledNo>')
_BAD_SIGNATURE = re.compile(r"SignatureDoesNotMatch|IncompleteSignature|(?:Invalid|Missing)Signature.*")
_UNKNOWN_ACTION = re.compile(r"(?:Invalid(?:Api|Action)).*")
_NO_BINDING, _NO_POOL, _NOTHING = "unknown", "unknown_pool", "none"
_ACTIONS = (QUERY_CALL_STATUS, QUERY_CALL_DETAIL, QUERY_SUBSCRIPTION_DETAIL, QUERY_NUMBER_DETAIL)
_RESET = ("reset", "truncated", "io", "bad_http")


class _Line(BaseModel):
    """A line of the file. Keys that a later version adds are ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class RecordedBinding(_Line):
    """A binding of the recorded account, with stand-ins."""

    kind: Literal["live", "expired", "unbound"]
    subs_id: str = Field(min_length=1)
    pool_key: str = Field(min_length=1)
    number_x: str
    number_a: str
    number_b: str = ""
    extension: str = ""
    expires_at: str = ""


class RecordedHead(_Line):
    """The first line."""

    transcript: Literal[1]
    started_at: float
    bindings: tuple[RecordedBinding, ...]


class RecordedCall(_Line):
    """A recorded call. `seconds` is how long it took; without a reply `http_status` is 0."""

    at: float
    action: str
    parameters: dict[str, str] = {}
    signature: Literal["acs3", "rpc"]
    format: Literal["json", "xml"]
    http_status: int = Field(ge=0, le=599)
    headers: dict[str, str] = {}
    body: str = ""
    seconds: float = Field(0.0, ge=0, le=600)
    failure: str = ""

    @property
    def code(self) -> str:
        found = _CODE.search(self.body)
        return (found[1] or found[2]) if found else ""

    @property
    def status(self) -> int | None:
        found = _STATUS.search(self.body)
        return int(found[1] or found[2]) if found and self.action == QUERY_CALL_STATUS else None

    @property
    def called_no(self) -> str:
        found = _CALLED_NO.search(self.body)
        return (found[1] or found[2]) if found else ""


@dataclass(frozen=True, slots=True)
class RecordedReply:
    """What to do with a request: a reply, or none at all. The recorded clock was `ahead` of ours, in seconds."""

    reply: Reply | None
    delay: float
    ahead: float = 0.0
    reset: bool = False


@dataclass(frozen=True, slots=True)
class _Likeness:
    """What a request is matched by. `who` is a SubsId of the transcript, or what is unknown about it."""

    action: str
    who: str
    call_no: str
    format: str
    signature: str


@dataclass(slots=True)
class _Tape:
    """The replies to one request, and how many of them were given."""

    replies: list[RecordedReply] = field(default_factory=list)
    given: int = 0

    def next(self) -> RecordedReply:
        self.given += 1
        return self.replies[min(self.given, len(self.replies)) - 1]


class Recording:
    """The recorded account. `say` gets a line for each kind of request that the transcript lacks."""

    def __init__(
        self, head: RecordedHead, calls: Sequence[RecordedCall], say: Callable[[str], None] = lambda _: None
    ) -> None:
        self.bindings = head.bindings
        self._calls = calls
        self._say = say
        self._said: set[_Likeness] = set()
        self._by_id = {binding.subs_id: binding for binding in head.bindings}
        self._by_x = {binding.number_x: binding.subs_id for binding in reversed(head.bindings)}
        self._pools = {binding.pool_key for binding in head.bindings}
        self._tapes: dict[_Likeness, _Tape] = {}
        for call in calls:
            request = self._likeness(call.action, call.parameters, call.format, call.signature)
            self._tapes.setdefault(request, _Tape()).replies.append(_reply(call, head.started_at))
        self._refused: dict[str, RecordedReply] = {
            call.signature: _reply(call, head.started_at)
            for call in calls
            if _BAD_SIGNATURE.fullmatch(call.code)
            and not any(other.signature == call.signature and other.code == "OK" for other in calls)
        }

    def reply(self, called: CalledAction, form: str) -> RecordedReply | None:
        """Return the reply to an authenticated request, or None to leave it to the simulation."""
        request = self._likeness(called.action, called.parameters, form, called.signature)
        tape = self._tapes.get(request)
        if tape is not None:
            return tape.next()
        if refused := self._refused.get(request.signature):
            return refused
        similar = self._similar(request)
        if request not in self._said:
            self._said.add(request)
            what = f"{request.action} ({request.signature}, {form}, {self._kind(request)}, CallNo {request.call_no})"
            how = (
                "replied as to a similar call" if similar else "replied as a simulation of the account would"
            )
            self._say(f"not in the transcript: {what}; {how}")
        return similar

    def registrations(self) -> Iterator[dict[str, Any]]:
        """Yield the bindings as they are registered with precall, labelled with their kind."""
        for binding in self.bindings:
            row = binding.model_dump(exclude={"kind"}, exclude_defaults=True)
            yield row | {"labels": {LABEL: binding.kind}}

    def scenario(self) -> Scenario:
        """Return a simulation with the traits of the account, for what the transcript lacks."""
        unknown = [call for call in self._calls if _UNKNOWN_ACTION.fullmatch(call.code)]
        served = {call.action for call in self._calls if call.http_status and call not in unknown}
        delisted = [a for a in _ACTIONS if a not in served and any(call.action == a for call in unknown)]
        business = [call for call in self._calls if call.code.startswith("isv.")]
        throttled = [c for c in self._calls if re.search("throttling|flow_limit", c.code, re.IGNORECASE)]
        rotating = self._rotates()
        return Scenario(
            delisted=delisted,
            delisted_code=unknown[0].code if unknown else "InvalidAction.NotFound",
            account=Account(throttle_code=throttled[0].code) if throttled else Account(),
            replies=Replies(business_http_errors=any(call.http_status >= 400 for call in business)),
            pools=tuple(
                Pool(
                    pool_key=pool_key,
                    bindings=0,
                    onset=0,
                    lifetime=0,
                    temporary="rotating" if rotating else "sticky",
                )
                for pool_key in sorted(self._pools)
            ),
            bindings=tuple(self._scripted(binding, rotating=rotating) for binding in self.bindings),
            faults=tuple(
                Fault(kind=FaultKind.GONE, subs_id=binding.subs_id)
                for binding in self.bindings
                if binding.kind == "unbound" and self._last_status(binding.subs_id) is None
            ),
        )

    def _rotates(self) -> bool:
        """Whether a binding under Status 2 had several temporary numbers."""
        lent: dict[str, set[str]] = {}
        for call in self._calls:
            if call.status == 2:
                lent.setdefault(call.parameters.get("SubsId", ""), set()).add(call.called_no)
        return any(len(numbers) > 1 for numbers in lent.values())

    def _last_status(self, subs_id: str) -> RecordedCall | None:
        for call in reversed(self._calls):
            if call.status is not None and call.parameters.get("SubsId") == subs_id:
                return call
        return None

    def _scripted(self, binding: RecordedBinding, *, rotating: bool) -> Binding:
        last = self._last_status(binding.subs_id)
        status = last.status if last is not None else 4 if binding.kind == "expired" else 1
        called_no = last.called_no if last is not None and status == 2 and not rotating else ""
        return Binding(
            **binding.model_dump(exclude={"kind", "expires_at"}), status=status, called_no=called_no or None
        )

    def _likeness(self, action: str, parameters: Mapping[str, str], form: str, signature: str) -> _Likeness:
        subs_id, pool_key = parameters.get("SubsId", ""), parameters.get("PoolKey", "")
        if "SecretNo" in parameters:
            subs_id = self._by_x.get(parameters["SecretNo"], _NO_BINDING)
        if not subs_id:
            who = _NOTHING
        elif pool_key not in self._pools:
            who = _NO_POOL
        else:
            who = subs_id if subs_id in self._by_id else _NO_BINDING
        return _Likeness(action, who, self._call_no(who, parameters.get("CallNo", "")), form, signature)

    def _call_no(self, who: str, call_no: str) -> str:
        if not call_no or who not in self._by_id:
            return "none" if not call_no else "other"
        binding = self._by_id[who]
        sides = {binding.number_a: "a", binding.number_b: "b"}
        return sides.get(call_no, "other")

    def _kind(self, request: _Likeness) -> str:
        binding = self._by_id.get(request.who)
        return binding.kind if binding is not None else request.who

    def _similar(self, request: _Likeness) -> RecordedReply | None:
        """Return the last reply to a request that differs at most in CallNo and signature, rather in CallNo."""
        candidates = [
            other
            for other in self._tapes
            if (other.action, other.format, other.who) == (request.action, request.format, request.who)
        ]
        if not candidates:
            return None
        best = min(
            candidates,
            key=lambda other: (other.signature != request.signature, other.call_no != request.call_no),
        )
        return self._tapes[best].replies[-1]


def load_recording(file: Path, say: Callable[[str], None]) -> Recording:
    """Read a transcript. Raises ScenarioError, which lists the lines that cannot be used."""
    mistakes: list[str] = []
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ScenarioError([f"cannot be read: {error}"]) from None
    head: RecordedHead | None = None
    calls: list[RecordedCall] = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            if head is None:
                head = RecordedHead.model_validate(json.loads(line))
            else:
                calls.append(RecordedCall.model_validate(json.loads(line)))
        except ValidationError as error:
            first = error.errors()[0]
            mistakes.append(f"line {number}, {'.'.join(map(str, first['loc']))}: {first['msg']}")
        except (ValueError, RecursionError):
            mistakes.append(f"line {number}: is not JSON")
        if mistakes and head is None:
            raise ScenarioError([f"is no transcript of precall doctor --contact: {mistakes[0]}"])
    if mistakes:
        raise ScenarioError(mistakes)
    if head is None or not calls:
        raise ScenarioError(["holds no call"])
    return Recording(head, calls, say)


def _reply(call: RecordedCall, started_at: float) -> RecordedReply:
    if not call.http_status:
        return RecordedReply(None, call.seconds, reset=call.failure in _RESET)
    headers = {name.lower(): value for name, value in call.headers.items()}
    retry_after = headers.get("x-acs-retry-after", "")
    ahead = 0.0
    try:
        dated = parsedate_to_datetime(headers["date"]).timestamp()
    except (KeyError, ValueError):
        pass
    else:
        behind = dated - (started_at + call.at + call.seconds)
        # A Date has whole seconds, so less than one is no difference between the clocks.
        ahead = behind if abs(behind) >= 1.5 else 0.0
    reply = Reply(
        call.http_status,
        call.body.encode(),
        headers.get("content-type", JSON_TYPE),
        call.code or "recorded",
        int(retry_after) if retry_after.isdecimal() else 0,
    )
    return RecordedReply(reply, call.seconds, ahead)
