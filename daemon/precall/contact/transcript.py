"""The transcript of a contact: JSON Lines with stand-ins for every number and id, which a simulator can replay.

The first line describes the contact and its bindings, each further one a call:

    {"transcript": 1, "started_at": 1767323045.678, "signature": "acs3", "format": "json", "bindings": [
        {"kind": "live", "subs_id": "7462...", "pool_key": "FC006339", "number_x": "17...", ...}]}
    {"call": 1, "at": 0.0, "probe": "live", "action": "QueryCallStatus", "parameters": {"SubsId": "7462...", ...},
     "binding": "live", "call_no": "none", "signature": "acs3", "format": "json", "http_status": 200,
     "headers": {"Content-Type": "application/json"}, "body": "{...}", "seconds": 0.034, "failure": ""}

`at` and `seconds` are seconds, `at` since `started_at` (Unix seconds). Without a reply `http_status` is 0 and `failure`
says why. RequestIds and codes are kept: support asks for them, and they identify no one.
"""

import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, TextIO

from precall import __version__
from precall.contact.calls import AskedCall
from precall.contact.stand_ins import StandIns
from precall.contact.subjects import UNKNOWN_POOL, UNKNOWN_SUBS_ID, UNKNOWN_X, Subject
from precall.provider.sign import Credential, Format, Scheme

VERSION = 1
HEADERS = ("Date", "Content-Type", "x-acs-retry-after", "x-acs-request-id")
_IDS = ("SubsId", "PoolKey")
_NUMBERS = ("CallNo", "PhoneNoX", "SecretNo")


class Transcript:
    """Writes a transcript. `stand_ins` must not be shared with another, so that two cannot be compared."""

    def __init__(self, out: TextIO, stand_ins: StandIns, credential: Credential | None) -> None:
        self._out = out
        self._stand_ins = stand_ins
        self._started_at = 0.0
        self._calls = 0
        if credential is not None:
            stand_ins.hide(
                (credential.access_key_id, credential.access_key_secret, credential.security_token)
            )
        stand_ins.keep((UNKNOWN_SUBS_ID, UNKNOWN_POOL, UNKNOWN_X))

    def begin(self, subjects: Iterable[Subject], way: tuple[Scheme, Format], started_at: float) -> None:
        """Write the first line. `way` is the configured signature and format."""
        self._started_at = started_at
        self._write(
            {
                "transcript": VERSION,
                "precall": __version__,
                "started_at": round(started_at, 3),
                "signature": way[0],
                "format": way[1],
                "bindings": [self._binding(subject) for subject in subjects],
            }
        )

    def note(self, call: AskedCall) -> None:
        """Write one call."""
        self._calls += 1
        question, reply = call.question, call.reply
        self._write(
            {
                "call": self._calls,
                "at": round(call.sent_at - self._started_at, 3),
                "probe": question.probe,
                "action": question.action,
                "parameters": self._parameters(question.parameters),
                "binding": question.subject.kind,
                "call_no": question.call_no,
                "signature": question.signature,
                "format": question.format,
                "http_status": reply.http_status,
                "headers": {
                    name: self._stand_ins.text(reply.headers[name])
                    if name.startswith("x-")
                    else reply.headers[name]
                    for name in HEADERS
                    if name in reply.headers
                },
                "body": self._stand_ins.text(reply.text) if reply.failure is None else "",
                "seconds": round(reply.seconds, 4),
                "failure": call.code if reply.failure is not None else "",
            }
        )

    def _parameters(self, parameters: Mapping[str, str]) -> dict[str, str]:
        masked = {}
        for name, value in parameters.items():
            if name in _IDS:
                masked[name] = self._stand_ins.id(value)
            else:
                masked[name] = self._stand_ins.number(value) if name in _NUMBERS else value
        return masked

    def _binding(self, subject: Subject) -> dict[str, Any]:
        binding = subject.binding
        described: dict[str, Any] = {
            "kind": subject.kind,
            "subs_id": self._stand_ins.id(binding.subs_id),
            "pool_key": self._stand_ins.id(binding.pool_key),
            "number_x": self._stand_ins.number(binding.number_x),
            "number_a": self._stand_ins.number(binding.number_a),
            "number_b": self._stand_ins.number(binding.number_b),
            "extension": binding.extension,
        }
        if binding.expires_at is not None:
            described["expires_at"] = datetime.fromtimestamp(binding.expires_at, UTC).isoformat()
        return described

    def _write(self, line: Mapping[str, Any]) -> None:
        self._out.write(json.dumps(line, ensure_ascii=False) + "\n")
        self._out.flush()
