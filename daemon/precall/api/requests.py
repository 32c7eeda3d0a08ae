"""Read a request: its JSON body and its query parameters, as pydantic models."""

import asyncio
import codecs
import re
from typing import Any, TypeVar

import orjson
from aiohttp import hdrs, web
from pydantic import (
    BaseModel,
    ValidationError,
)

from precall.api.problems import Code, FieldErrors, mistakes
from precall.api.schemas.changes import FilterQuery
from precall.core.duplicate_keys import may_repeat, repeated_key
from precall.core.errors import Refusal
from precall.core.status.texts import Language

MAX_BODY, MAX_BATCH_BODY = 1024 * 1024, 8 * 1024 * 1024
BODY_TIMEOUT = 30.0
_LONGEST_KEY = 64
_MANY_DIGITS = re.compile(r"[0-9]{7}")
M = TypeVar("M", bound=BaseModel)


async def read_body(
    request: web.Request, model: type[M], within: float = BODY_TIMEOUT, most: int = MAX_BODY
) -> M:
    """Return the body as `model`. `within` is its time limit in seconds, `most` its size limit in bytes.

    Raises Refusal: 400 invalid JSON, 408 too slow, 413 too large, 415 another content type, 422 invalid for the model.
    """
    data = await json_body(request, within, most)
    try:
        return model.model_validate(data)
    except ValidationError as error:
        raise FieldErrors(422, mistakes(error)) from None


async def json_body(request: web.Request, within: float = BODY_TIMEOUT, most: int = MAX_BODY) -> Any:
    """Return the body as any JSON. Raises Refusal as `read_body` does."""
    return await parse_unique(await raw_body(request, within, most))


async def raw_body(
    request: web.Request, within: float = BODY_TIMEOUT, most: int = MAX_BODY, *, named: bool = True
) -> bytearray:
    """Return the body as bytes. With `named`, its content type must be JSON. Raises Refusal as `read_body` does."""
    if request.body_exists:
        _must_be_plain(request)
        if named:
            _must_be_json(request)
    try:
        # aiohttp would wait for a slow body for ever.
        async with asyncio.timeout(within):
            raw = await _received(request, most)
    except TimeoutError:
        raise Refusal(408, Code.BODY_TOO_SLOW, f"the body took more than {within:g} s") from None
    except (web.RequestPayloadError, ConnectionError):
        raise Refusal(400, Code.BAD_REQUEST, "the body does not match its headers") from None
    return raw


async def parse_unique(raw: bytes | bytearray) -> Any:
    """Parse a body, {} if it is empty. Raises Refusal (400) for invalid JSON and for a repeated key."""
    try:
        data = orjson.loads(raw) if raw else {}
    except orjson.JSONDecodeError as error:
        raise Refusal(400, Code.MALFORMED_JSON, f"the body is not JSON: {error}") from None
    if may_repeat(raw, data):
        try:
            key = await asyncio.to_thread(repeated_key, raw, data)
        except ValueError as error:
            raise Refusal(400, Code.MALFORMED_JSON, f"the body is not JSON: {error}") from None
        if key is not None:
            detail = f"the key {shown_key(key)} stands twice in one object: which of its values is meant is not clear"
            raise Refusal(400, Code.MALFORMED_JSON, detail)
    return data


def preferred_language(request: web.Request) -> Language:
    """Return the language of the texts that `Accept-Language` prefers; English if it names none of them."""
    best, chosen = 0.0, Language.EN
    for item in request.headers.get(hdrs.ACCEPT_LANGUAGE, "").split(","):
        tag, _, weight = item.strip().partition(";")
        primary = tag.strip().lower().partition("-")[0]
        if primary in set(Language) and (given := _weight(weight)) > best:
            best, chosen = given, Language(primary)
    return chosen


def _weight(text: str) -> float:
    """Return the weight of ";q=0.8", 1 without one, and 0 for one that cannot be read."""
    name, equals, value = text.replace(" ", "").partition("=")
    if not equals:
        return 1.0 if not name else 0.0
    return float(value) if re.fullmatch(r"[01](?:\.[0-9]{0,3})?", value) else 0.0


def shown_key(key: str) -> str:
    """Return a key as an error may show it: shortened, and withheld if it may be a phone number."""
    plain = key[:_LONGEST_KEY]
    return f'"{plain}"' if plain.isprintable() and not _MANY_DIGITS.search(plain) else "(withheld)"


def _must_be_json(request: web.Request) -> None:
    """Raise Refusal (415) for another content type. A foreign web page cannot send JSON without permission."""
    if request.content_type != "application/json":
        raise Refusal(415, Code.UNSUPPORTED_MEDIA_TYPE, "send JSON, with `Content-Type: application/json`")
    if not _is_utf8(request.charset or "utf-8"):
        detail = "send JSON in UTF-8: the `charset` of its Content-Type names another encoding"
        raise Refusal(415, Code.UNSUPPORTED_MEDIA_TYPE, detail)


def _is_utf8(charset: str) -> bool:
    """Whether a charset is UTF-8 or ASCII, in any spelling such as utf8 or UTF_8."""
    try:
        return codecs.lookup(charset.strip("'")).name in ("utf-8", "ascii")
    except (LookupError, ValueError):
        return False


def _must_be_plain(request: web.Request) -> None:
    """Raise Refusal (415) for a compressed body."""
    if request.headers.get(hdrs.CONTENT_ENCODING, "identity") != "identity":
        raise Refusal(415, Code.UNSUPPORTED_MEDIA_TYPE, "send it as it is, without Content-Encoding")


async def _received(request: web.Request, most: int) -> bytearray:
    raw = bytearray()
    if (request.content_length or 0) <= most:
        while not request.content.at_eof():
            raw += await request.content.readany()
            if len(raw) > most:
                break
        else:
            return raw
    raise Refusal(413, Code.BODY_TOO_LARGE, f"a body may have at most {most // 1024**2} MiB here")


def read_query(request: web.Request, model: type[M]) -> M:
    """Return the query parameters as `model`. Raises Refusal (400)."""
    query = request.query
    lists = FilterQuery.model_fields if issubclass(model, FilterQuery) else ()
    given = {name: ",".join(query.getall(name)) for name in query}
    if any(name not in lists and len(query.getall(name)) > 1 for name in given):
        raise Refusal(400, Code.INVALID_PARAMETER, "a parameter is given twice")
    try:
        return model.model_validate(given)
    except ValidationError as error:
        raise FieldErrors(400, mistakes(error, parameters=True)) from None
