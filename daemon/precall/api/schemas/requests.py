"""What may be sent: bodies as strict pydantic models, and what they become in the core's words.

Ids and numbers are strings and nothing else, times carry their zone, unknown fields are refused. What stands behind the
question mark is `queries`' concern, what leaves is `answers`'.
"""

import asyncio
import codecs
import re
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, TypeVar

import orjson
from aiohttp import hdrs, web
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    RootModel,
    ValidationError,
    WithJsonSchema,
    model_validator,
)
from pydantic_core import PydanticCustomError

from precall.api.problems import Code, FieldError, FieldErrors, mistakes
from precall.core import rules
from precall.core.callers import acceptable
from precall.core.duplicate_keys import may_repeat, repeated_key
from precall.core.errors import Refusal
from precall.core.model import Action, Binding
from precall.core.numbers import clean, fault, mistake

MAX_BODY, MAX_BATCH_BODY = 1024 * 1024, 8 * 1024 * 1024
BODY_TIMEOUT = 30.0
MAX_LOOKUP = 1000
MAX_BATCH = 5000

M = TypeVar("M", bound=BaseModel)

# Wide enough for all that `core.numbers` reads, full-width forms and unseen marks included; it reads less than this.
_PARTS = r"[ \t().\u00a0\u00ad\u00b7\u2000-\u206f\u2212\u3000\ufe58\ufe63\ufeff\uff08\uff09\uff0d\uff0e-]*"
A_NUMBER = rf"^{_PARTS}(?:[+\uff0b]{_PARTS})?(?:[0-9\uff10-\uff19]{_PARTS}){{3,24}}$"
A_NUMBER_OR_NONE = f"^$|{A_NUMBER}"
A_CALLER = r"^[^\x00-\x1f\x7f]{0,256}$"

_TIME = re.compile(
    r"(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d)(?::(\d\d)(?:\.\d{1,9})?)?([Zz]|[+-]\d\d:?\d\d)", re.ASCII
)
_PLUS_LOST = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d(?::\d\d(?:\.\d{1,9})?)? \d\d:?\d\d", re.ASCII)
_LONGEST_KEY = 64
_MANY_DIGITS = re.compile(r"[0-9]{7}")


def _number(value: str) -> str:
    if "*" in value:
        raise PydanticCustomError(
            "masked_number", "is a masked number; send the number itself, or leave the binding as it is"
        )
    if wrong := fault(value):
        raise ValueError(str(wrong))
    return clean(value)


def _number_or_none(value: str) -> str:
    return _number(value) if value else ""


def _caller(value: str) -> str:
    if not acceptable(value):
        raise PydanticCustomError(
            "invalid_caller", "should have at most 256 characters, and no control characters"
        )
    return value


def seconds(value: str) -> float:
    """RFC 3339 as Unix seconds, also without seconds or with a zone such as +0800.

    Fractions are dropped, so that what is shown is what is stored; a leap second is the first one after it.
    """
    if not (match := _TIME.fullmatch(value)):
        if _PLUS_LOST.fullmatch(value):
            raise ValueError(
                "has a space where its zone begins: in a URL a + is a space; write %2B, or Z for UTC"
            )
        raise ValueError('should be an RFC 3339 time with its zone, such as "2030-01-31T12:00:00+08:00"')
    day, hour, second, zone = match.groups(default="00")
    leap = second == "60"
    try:
        moment = datetime.fromisoformat(f"{day}T{hour}:{59 if leap else second}{zone.upper()}")
        seconds = (moment - datetime.fromtimestamp(0, UTC)).total_seconds() + leap
    except (ValueError, OverflowError):
        raise ValueError("should be a time that exists") from None
    if not rules.is_time(seconds):
        raise ValueError(rules.NOT_A_TIME)
    return seconds


def _no_later(value: object) -> object:
    return "" if value is None else value


def _moment(value: str) -> str:
    seconds(value)
    return value


def _time(value: str) -> str:
    return _moment(value) if value else value


def _labels(value: dict[str, str]) -> dict[str, str]:
    if wrong := rules.fault_of_labels(value):
        raise ValueError(wrong)
    return value


SubsId = Annotated[str, Field(pattern=f"^{rules.SUBS_ID}$", examples=["1000000768798832"])]
PoolKey = Annotated[str, Field(pattern=f"^{rules.POOL_KEY}$", examples=["FC100000022"])]
Number = Annotated[
    str,
    AfterValidator(_number),
    Field(examples=["17000000000"], json_schema_extra={"pattern": A_NUMBER}),
]
Caller = Annotated[
    str,
    AfterValidator(_caller),
    Field(
        description="A number in any spelling, or a SIP or tel URI with one; anything else is an unknown caller.",
        examples=["13800000000", "sip:+8613800000000@gateway.example"],
        json_schema_extra={"pattern": A_CALLER},
    ),
]
NumberOrNone = Annotated[
    str,
    AfterValidator(_number_or_none),
    Field(examples=["13900000000", ""], json_schema_extra={"pattern": A_NUMBER_OR_NONE}),
]
_A_TIME = {"type": "string", "format": "date-time"}
Moment = Annotated[str, AfterValidator(_moment), WithJsonSchema(_A_TIME)]
Time = Annotated[
    str,
    BeforeValidator(_no_later),
    AfterValidator(_time),
    WithJsonSchema({"anyOf": [_A_TIME, {"const": ""}, {"type": "null"}]}),
    Field(description='RFC 3339 with a zone; "" for none', examples=["2030-01-31T00:00:00Z"]),
]
Label = Annotated[str, Field(max_length=rules.MAX_LABEL_VALUE)]
LabelKey = Annotated[str, Field(min_length=1, max_length=rules.MAX_LABEL_KEY)]
Text = Annotated[str, Field(max_length=256, pattern=r"^[^\x00-\x1f\x7f]*$")]


class Body(BaseModel):
    """A JSON body: every type as written, nothing unknown."""

    model_config = ConfigDict(extra="forbid", strict=True, hide_input_in_errors=True)

    def __repr_args__(self) -> Iterator[tuple[str, object]]:
        """None: a number may be among them."""
        return iter(())


class BindingBody(Body):
    """A binding to register. `number_b` is "" where the binding has no B (AXN, AXG)."""

    subs_id: SubsId | None = None
    pool_key: PoolKey
    number_x: Number
    number_a: Number
    number_b: NumberOrNone = ""
    extension: Annotated[str, Field(pattern=f"^{rules.EXTENSION}$")] = ""
    expires_at: Time = ""
    labels: Annotated[dict[LabelKey, Label], AfterValidator(_labels), Field(max_length=rules.MAX_LABELS)] = {}

    @model_validator(mode="after")
    def _can_be_dialled(self) -> "BindingBody":
        if wrong := mistake(self.number_x, self.number_a, self.number_b):
            raise PydanticCustomError("at_field", "{text}", {"field": wrong[0], "text": wrong[1]})
        return self

    def binding(self, subs_id: str) -> Binding:
        """The facts as the core holds them."""
        return Binding(
            subs_id=subs_id,
            pool_key=self.pool_key,
            number_x=self.number_x,
            number_a=self.number_a,
            number_b=self.number_b,
            extension=self.extension,
            expires_at=seconds(self.expires_at) if self.expires_at else None,
            labels=tuple(sorted(self.labels.items())),
        )


class ListedBinding(BindingBody):
    """A binding of a batch, which names its own id."""

    subs_id: SubsId


class BatchBody(Body):
    """Many bindings; each is looked at by itself, so that one mistake does not hide the others."""

    bindings: Annotated[list[Any], Field(max_length=MAX_BATCH)]


class DocumentedBatch(Body):
    """Many bindings."""

    bindings: Annotated[list[ListedBinding], Field(max_length=MAX_BATCH)]


class LookupBody(Body):
    """Ids whose routes are wanted, and who is calling."""

    subs_ids: Annotated[list[Annotated[str, Field(max_length=64)]], Field(max_length=MAX_LOOKUP)]
    caller: Caller = ""


class HintBody(Body):
    """A binding that will be dialled, and when."""

    subs_id: Annotated[str, Field(max_length=64)]
    dial_at: Moment

    @property
    def moment(self) -> float:
        """`dial_at` as Unix seconds."""
        return seconds(self.dial_at)


class HintsBody(RootModel[Annotated[list[HintBody], Field(max_length=MAX_LOOKUP)]]):
    """Hints, as a list."""


class OverrideBody(Body):
    """A pin: what to say instead, with which number of the binding's own ("": its own), until when, and why."""

    action: Literal["hold", "dial_x", "dial_temp_x"]
    number: NumberOrNone = ""
    until: Time = ""
    reason: Text = ""

    @property
    def order(self) -> tuple[Action, str, float | None, str]:
        """(action, number, until, reason), as the registry takes them."""
        until = seconds(self.until) if self.until else None
        return Action(self.action), self.number, until, self.reason


class PoolBody(Body):
    """A pool, or all ("")."""

    pool_key: PoolKey | Literal[""] = ""
    reason: Text = ""


class ApplyBody(Body):
    """A sync with the source. `force`: whatever it removes."""

    force: bool = False


async def read(request: web.Request, model: type[M], within: float = BODY_TIMEOUT, most: int = MAX_BODY) -> M:
    """The body as `model`; `within` is how many seconds it may take to arrive, `most` how many bytes it may have.

    Raises Refusal: 400 no JSON, 408 too slow, 413 too large, 415 no JSON by its name, 422 not as the model wants it.
    """
    data = await content(request, within, most)
    try:
        return model.model_validate(data)
    except ValidationError as error:
        raise FieldErrors(422, mistakes(error)) from None


def listed(items: Sequence[Any], start: int) -> list[tuple[str, Binding | FieldError]]:
    """Each item of a batch as (its id, "" when it has none that could be told; the binding, or the first mistake).

    `start` is the place of the first in the whole batch, for the text of the mistakes.
    """
    return [_listed(item, f"bindings[{place}]") for place, item in enumerate(items, start)]


def _listed(item: Any, place: str) -> tuple[str, Binding | FieldError]:
    try:
        body = ListedBinding.model_validate(item)
    except ValidationError as error:
        given = item.get("subs_id") if isinstance(item, dict) else None
        known = given if isinstance(given, str) and rules.is_subs_id(given) else ""
        return known, mistakes(error, place)[0]
    return body.subs_id, body.binding(body.subs_id)


async def content(request: web.Request, within: float = BODY_TIMEOUT, most: int = MAX_BODY) -> Any:
    """The body as JSON, whatever it holds. Raises as `read`."""
    return await unique(await received(request, within, most))


async def received(
    request: web.Request, within: float = BODY_TIMEOUT, most: int = MAX_BODY, *, named: bool = True
) -> bytearray:
    """The body as it came; `named`: only if its content type says that it is JSON. Raises as `read`."""
    if request.body_exists:
        _must_be_plain(request)
        if named:
            _must_be_json(request)
    try:
        # aiohttp by itself waits for a slow body without end.
        async with asyncio.timeout(within):
            raw = await _received(request, most)
    except TimeoutError:
        raise Refusal(408, Code.BODY_TOO_SLOW, f"the body took more than {within:g} s") from None
    except (web.RequestPayloadError, ConnectionError):
        raise Refusal(400, Code.BAD_REQUEST, "the body does not arrive as its headers say") from None
    return raw


async def unique(raw: bytes | bytearray) -> Any:
    """The JSON of a body in which no key stands twice; an empty one is {}. Raises Refusal (400)."""
    try:
        data = orjson.loads(raw) if raw else {}
    except orjson.JSONDecodeError as error:
        raise Refusal(400, Code.MALFORMED_JSON, f"the body is no JSON: {error}") from None
    if may_repeat(raw, data):
        try:
            key = await asyncio.to_thread(repeated_key, raw, data)
        except ValueError as error:
            raise Refusal(400, Code.MALFORMED_JSON, f"the body is no JSON: {error}") from None
        if key is not None:
            detail = f"the key {shown_key(key)} stands twice in one object: which of its values is meant is not clear"
            raise Refusal(400, Code.MALFORMED_JSON, detail)
    return data


def shown_key(key: str) -> str:
    """A key as it may be repeated: short, and no number of anybody."""
    plain = key[:_LONGEST_KEY]
    return f'"{plain}"' if plain.isprintable() and not _MANY_DIGITS.search(plain) else "(withheld)"


def _must_be_json(request: web.Request) -> None:
    """By its name: a page elsewhere cannot send that name unasked."""
    if request.content_type != "application/json":
        raise Refusal(415, Code.UNSUPPORTED_MEDIA_TYPE, "send JSON, with `Content-Type: application/json`")
    if not _is_utf8(request.charset or "utf-8"):
        detail = "send JSON in UTF-8: the `charset` of its Content-Type names another encoding"
        raise Refusal(415, Code.UNSUPPORTED_MEDIA_TYPE, detail)


def _is_utf8(charset: str) -> bool:
    """Whether a name stands for UTF-8, or for the ASCII within it: clients spell it in many ways (utf8, UTF_8)."""
    try:
        return codecs.lookup(charset.strip("'")).name in ("utf-8", "ascii")
    except (LookupError, ValueError):
        return False


def _must_be_plain(request: web.Request) -> None:
    """Nothing is unpacked."""
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
