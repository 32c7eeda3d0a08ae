"""Errors as `application/problem+json` (RFC 9457): the codes, and the response to each error.

No text repeats what was sent, since it may hold a phone number or a secret.
"""

import asyncio
import re
import traceback
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from http import HTTPStatus
from math import ceil
from typing import Any

import orjson
from aiohttp import hdrs, web
from aiohttp.typedefs import Handler
from pydantic import ValidationError

from precall.core.errors import OutcomeUnknown, Refusal, StoreUnavailable
from precall.telemetry.logging import get_logger
from precall.telemetry.redaction import masked

log = get_logger(__name__)

CONTENT_TYPE = "application/problem+json"
HEADERS: dict[str, str] = {
    hdrs.CACHE_CONTROL: "no-store",
    hdrs.X_CONTENT_TYPE_OPTIONS: "nosniff",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    hdrs.SERVER: "precall",
}
"""Headers of every response."""

RETRY_STORE = 5
DRAIN, DRAIN_BYTES = 2.0, 16 * 1024 * 1024
_READ_BY_POST = frozenset({"/v1/routes/lookup"})
_MANY = 20


class Code(StrEnum):
    """The machine-readable codes of problems. Later versions may add some."""

    BAD_REQUEST = "bad_request"
    MALFORMED_JSON = "malformed_json"
    UNKNOWN_FIELD = "unknown_field"
    UNKNOWN_PARAMETER = "unknown_parameter"
    MISSING_FIELD = "missing_field"
    MISSING_PARAMETER = "missing_parameter"
    INVALID_FIELD = "invalid_field"
    INVALID_PARAMETER = "invalid_parameter"
    INVALID_CALLER = "invalid_caller"
    INVALID_CURSOR = "invalid_cursor"
    MASKED_NUMBER = "masked_number"
    ID_MISMATCH = "id_mismatch"
    EXPIRES_IN_THE_PAST = "expires_in_the_past"
    IN_THE_PAST = "in_the_past"
    FOREIGN_NUMBER = "foreign_number"
    FOREIGN_ORIGIN = "foreign_origin"
    FOREIGN_REQUEST = "foreign_request"
    UNKNOWN_BINDING = "unknown_binding"
    UNKNOWN_CALL = "unknown_call"
    UNKNOWN_OVERRIDE = "unknown_override"
    UNKNOWN_POOL = "unknown_pool"
    NOT_A_PERSON = "not_a_person"
    NO_SOURCE = "no_source"
    AMBIGUOUS_NUMBER = "ambiguous_number"
    BATCH_REFUSED = "batch_refused"
    COMPACTED = "compacted"
    BUDGET_SPENT = "budget_spent"
    TOO_MANY_HINTS = "too_many_hints"
    UNAUTHORIZED = "unauthorized"
    FORBIDDEN = "forbidden"
    RATE_LIMITED = "rate_limited"
    TOO_MANY_AT_ONCE = "too_many_at_once"
    NOT_FOUND = "not_found"
    METHOD_NOT_ALLOWED = "method_not_allowed"
    BODY_TOO_LARGE = "body_too_large"
    BODY_TOO_SLOW = "body_too_slow"
    UNSUPPORTED_MEDIA_TYPE = "unsupported_media_type"
    STORE_UNAVAILABLE = "store_unavailable"
    AUDIT_UNAVAILABLE = "audit_unavailable"
    STARTING = "starting"
    STANDBY = "standby"
    SOURCE_UNAVAILABLE = "source_unavailable"
    BAD_CONFIGURATION = "bad_configuration"
    INTERNAL_ERROR = "internal_error"


class TooMany(Refusal):
    """A rate limit is exceeded. `wait` is how many seconds to wait before the next try."""

    def __init__(self, code: Code, detail: str, wait: float) -> None:
        super().__init__(429, code, detail)
        self.wait = wait


@dataclass(frozen=True, slots=True)
class FieldError:
    """One mistake in a request: its field, its code, and how to correct it."""

    field: str
    code: str
    detail: str


class FieldErrors(Refusal):
    """A request with mistakes. The first one names the problem, and all are listed."""

    def __init__(self, status: int, found: list[FieldError]) -> None:
        first = found[0]
        super().__init__(status, first.code, first.detail, first.field)
        self.found = found


def mistakes(error: ValidationError, prefix: str = "", *, parameters: bool = False) -> list[FieldError]:
    """Return the mistakes that pydantic found. `prefix` is the path of the validated value in the body."""
    return [
        _mistake(item, prefix, parameters=parameters)
        for item in error.errors(include_url=False, include_input=False)[:_MANY]
    ]


def problem(
    status: int,
    code: str,
    detail: str,
    field: str = "",
    *,
    headers: Mapping[str, str] | None = None,
    **more: Any,
) -> web.Response:
    """Return a problem document. `more` are further members."""
    body: dict[str, Any] = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "code": str(code),
        "detail": detail,
    }
    if field:
        body["field"] = field
    return web.Response(
        status=status,
        body=orjson.dumps(body | more),
        content_type=CONTENT_TYPE,
        headers={**HEADERS, **(headers or {})},
    )


@web.middleware
async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turn every error into a problem document."""
    try:
        return await handler(request)
    except Exception as error:  # noqa: BLE001  the text of an unknown error must not reach the client
        response = problem_of(request, error)
    if response.status != 408:
        await drain(request)
    return response


def problem_of(request: web.Request, error: Exception) -> web.Response:
    """Return the problem document for an error, and log one that nobody expected."""
    match error:
        case Refusal():
            return _refused(error)
        case StoreUnavailable():
            return problem(
                503,
                Code.STORE_UNAVAILABLE,
                _unavailable(request, error),
                headers={hdrs.RETRY_AFTER: str(RETRY_STORE)},
            )
        case web.HTTPException():
            return _http_error(error)
        case _:
            return _unexpected(request, error)


def _unavailable(request: web.Request, error: StoreUnavailable) -> str:
    if request.method in (hdrs.METH_GET, hdrs.METH_HEAD) or request.path in _READ_BY_POST:
        return "the database does not answer now"
    if isinstance(error, OutcomeUnknown):
        return "the database was lost during the write, which may be stored or not: send it again"
    return "the database does not accept writes now; nothing was stored"


async def drain(request: web.Request) -> None:
    """Read the rest of the body for a while, since a client that is cut off would not read the response."""
    with suppress(TimeoutError, ConnectionError, web.RequestPayloadError):
        async with asyncio.timeout(DRAIN):
            taken = 0
            while not request.content.at_eof() and taken < DRAIN_BYTES:
                taken += len(await request.content.readany())


def _refused(refusal: Refusal) -> web.Response:
    headers: dict[str, str] = {}
    if refusal.status == 401:
        headers[hdrs.WWW_AUTHENTICATE] = 'Bearer realm="precall"'
    if isinstance(refusal, TooMany):
        headers[hdrs.RETRY_AFTER] = str(max(1, ceil(refusal.wait)))
    more: dict[str, Any] = {}
    if isinstance(refusal, FieldErrors) and len(refusal.found) > 1:
        more["errors"] = [
            {"field": one.field, "code": one.code, "detail": one.detail} for one in refusal.found
        ]
    return problem(refusal.status, refusal.code, str(refusal), refusal.field, headers=headers, **more)


def _http_error(error: web.HTTPException) -> web.Response:
    """Return the problem document for an error of aiohttp itself."""
    match error:
        case web.HTTPNotFound():
            return problem(404, Code.NOT_FOUND, "there is no such path; see /openapi.json")
        case web.HTTPMethodNotAllowed():
            allowed = ", ".join(sorted(error.allowed_methods))
            detail = f"this path answers {allowed}"
            return problem(405, Code.METHOD_NOT_ALLOWED, detail, headers={hdrs.ALLOW: allowed})
        case web.HTTPRequestEntityTooLarge():
            return problem(413, Code.BODY_TOO_LARGE, "the body is larger than is accepted")
        case _:
            return problem(error.status, Code.BAD_REQUEST, "the request cannot be understood")


def _unexpected(request: web.Request, error: Exception) -> web.Response:
    resource = request.match_info.route.resource
    log.error(
        "api.unexpected",
        method=request.method,
        path=resource.canonical if resource else "",
        error=type(error).__name__,
        # Without the text of the error, which may quote the request.
        where="".join(traceback.format_tb(error.__traceback__)[-3:]),
    )
    return problem(500, Code.INTERNAL_ERROR, "something unexpected happened; it has been logged")


def _mistake(item: Any, prefix: str, *, parameters: bool) -> FieldError:
    kind, place, detail = item["type"], item["loc"], str(item["msg"]).removeprefix("Value error, ")
    code = Code.INVALID_PARAMETER if parameters else Code.INVALID_FIELD
    match kind:
        case "extra_forbidden":
            code = Code.UNKNOWN_PARAMETER if parameters else Code.UNKNOWN_FIELD
            detail = "is not known here"
        case "missing":
            code = Code.MISSING_PARAMETER if parameters else Code.MISSING_FIELD
            detail = "is required"
        case "masked_number":
            code = Code.MASKED_NUMBER
        case "invalid_caller":
            code = Code.INVALID_CALLER
        case "at_field":
            # Several fields together are wrong: report the one that must change.
            place = (*place, item["ctx"]["field"])
    detail = re.sub(r"^(?:Input|String|Value|List|Dictionary) should", "should", detail)
    return FieldError(_place(prefix, place), code, detail)


def _place(prefix: str, parts: tuple[int | str, ...]) -> str:
    """Return a path such as "bindings[17].labels.city". Phone numbers in it are masked."""
    place = prefix
    for part in parts:
        if isinstance(part, int):
            place += f"[{part}]"
        elif part != "[key]":
            shown = masked(part)[:64]
            place += f".{shown}" if place else shown
    return place
