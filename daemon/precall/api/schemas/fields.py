"""The fields that the schemas of several resources share, and the bases of all models.

Phone numbers are strings, "" for none and never null. Times are RFC 3339; responses give them in UTC.
"""

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import lru_cache
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema
from pydantic_core import PydanticCustomError

from precall.api.problems import Code
from precall.core import rules
from precall.core.callers import acceptable
from precall.core.errors import Refusal
from precall.core.numbers import clean, fault

# Accepts at least what `core.numbers` reads, full-width forms and invisible characters included.
_PARTS = r"[ \t().\u00a0\u00ad\u00b7\u2000-\u206f\u2212\u3000\ufe58\ufe63\ufeff\uff08\uff09\uff0d\uff0e-]*"
A_NUMBER = rf"^{_PARTS}(?:[+\uff0b]{_PARTS})?(?:[0-9\uff10-\uff19]{_PARTS}){{3,24}}$"
A_NUMBER_OR_NONE = f"^$|{A_NUMBER}"
A_CALLER = r"^[^\x00-\x1f\x7f]{0,256}$"
_TIME = re.compile(
    r"(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d)(?::(\d\d)(?:\.\d{1,9})?)?([Zz]|[+-]\d\d:?\d\d)", re.ASCII
)
_PLUS_LOST = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d(?::\d\d(?:\.\d{1,9})?)? \d\d:?\d\d", re.ASCII)
_SPACE_FOR_PLUS = re.compile(r" [0-9\uff10-\uff19(]")
MAX_PAGE = 1000
CURSOR = "Where the page begins: empty for the first page, else the `cursor` of the previous one."


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
    """Return an RFC 3339 time as Unix seconds. Raises ValueError with a text for the client.

    The seconds may be missing, and the zone may be written as +0800. Fractions are dropped, so that what is shown is
    what is stored. A leap second counts as the second after it.
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
        description="The calling number in any spelling, or a SIP or tel URI. Anything else is an unknown caller.",
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
    Field(description='RFC 3339 with a zone; "" for none.', examples=["2030-01-31T00:00:00Z"]),
]
Text = Annotated[str, Field(max_length=256, pattern=r"^[^\x00-\x1f\x7f]*$")]


class Body(BaseModel):
    """A JSON body: types are not coerced, and unknown members are refused."""

    model_config = ConfigDict(extra="forbid", strict=True, hide_input_in_errors=True)

    def __repr_args__(self) -> Iterator[tuple[str, object]]:
        """None: a number may be among them."""
        return iter(())


class QueryModel(BaseModel):
    """The query parameters of an operation; unknown ones are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True, populate_by_name=True)

    def __repr_args__(self) -> Iterator[tuple[str, object]]:
        """None: a number may be among them."""
        return iter(())


def _plus_restored(value: object) -> object:
    """Restore a leading `+` that URL decoding has turned into a space. No number or URI begins with a space."""
    if isinstance(value, str) and _SPACE_FOR_PLUS.match(value):
        return f"+{value[1:]}"
    return value


RestoresPlus = BeforeValidator(_plus_restored)
Limit = Annotated[int, Field(ge=1, le=MAX_PAGE)]
Seconds = Annotated[float, Field(ge=0, le=86_400, allow_inf_nan=False)]
Timeout = Annotated[float, Field(gt=0, le=10, allow_inf_nan=False)]


class PageQuery(QueryModel):
    """Which page of a list is wanted."""

    cursor: Annotated[str, Field(max_length=128, description=CURSOR)] = ""
    limit: Annotated[Limit, Field(description="How many items the page may have.")] = 100


class TableQuery(PageQuery):
    """Which page of the routing table, sorted by id, is wanted."""

    cursor: Annotated[str, Field(description=CURSOR, json_schema_extra={"pattern": r"^[0-9]{0,32}$"})] = ""

    @property
    def after(self) -> str:
        """The id that the page begins after, "" for none. Raises Refusal (400) for the cursor of another list."""
        if self.cursor and not rules.is_subs_id(self.cursor):
            raise Refusal(400, Code.INVALID_CURSOR, "is not a cursor of this list", "cursor")
        return self.cursor


def _open(schema: dict[str, Any]) -> None:
    schema["additionalProperties"] = True


class ResponseModel(BaseModel):
    """The body of a response.

    The published schema allows further members, since later versions may add some. The model itself forbids them, so
    that a test finds a member that the schema does not describe.
    """

    model_config = ConfigDict(extra="forbid", json_schema_extra=_open)


def _without_default(schema: dict[str, Any]) -> None:
    schema.pop("default", None)


OPTIONAL: Any = Field(default=None, json_schema_extra=_without_default)
"""The default of a member that may be absent from a response. It is never null."""


def moment(at: float) -> str:
    """Return Unix seconds as RFC 3339 in UTC, to the millisecond; "" for 0, which stands for never."""
    if not at:
        return ""
    minute, micros = divmod(round(at * 1e6), 60_000_000)
    return f"{_minute(minute)}{micros // 1_000_000:02}.{micros // 1000 % 1000:03}Z"


def second(at: float | None) -> str:
    """Return Unix seconds as RFC 3339 in UTC, to the second; "" for None."""
    if at is None:
        return ""
    minute, seconds = divmod(int(at), 60)
    return f"{_minute(minute)}{seconds:02}Z"


@lru_cache(4096)
def _minute(minute: int) -> str:
    """The text of a time up to its seconds. Every read of a route shows three times, most of them in a few minutes."""
    return datetime.fromtimestamp(minute * 60, UTC).isoformat()[:17]
