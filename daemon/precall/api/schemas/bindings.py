"""Bindings: registered, listed, checked and explained."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from precall.api.problems import FieldError, mistakes
from precall.api.schemas.fields import (
    CURSOR,
    OPTIONAL,
    Body,
    Number,
    NumberOrNone,
    PageQuery,
    PoolKey,
    QueryModel,
    ResponseModel,
    SubsId,
    TableQuery,
    Time,
    Timeout,
    moment,
    second,
    seconds,
)
from precall.api.schemas.orders import OrderAnswer
from precall.api.schemas.overrides import OverrideAnswer
from precall.api.schemas.routes import RouteAnswer, WouldAnswer
from precall.core import rules
from precall.core.model import Action, Binding, Flag, Reason
from precall.core.numbers import mask, mistake
from precall.core.rounding import micro
from precall.core.routing.registration import RegistrationOutcome

MAX_BATCH = 5000
A_PLACE = r"([0-9]{1,18})\.([0-9]{1,18})(?:\.([0-9]{1,18}))?"
"""The cursor of a history: the number of a run of replies, the index of a change, and the number of an order."""


def _labels(value: dict[str, str]) -> dict[str, str]:
    if wrong := rules.fault_of_labels(value):
        raise ValueError(wrong)
    return value


Label = Annotated[str, Field(max_length=rules.MAX_LABEL_VALUE)]
LabelKey = Annotated[str, Field(min_length=1, max_length=rules.MAX_LABEL_KEY)]


class BindingBody(Body):
    """A binding to register. `number_b` is "" for a binding without B (AXN, AXG)."""

    subs_id: SubsId | None = None
    pool_key: PoolKey
    number_x: Number
    number_a: Number
    number_b: NumberOrNone = ""
    extension: Annotated[str, Field(pattern=f"^{rules.EXTENSION}$")] = ""
    expires_at: Time = ""
    labels: Annotated[dict[LabelKey, Label], AfterValidator(_labels), Field(max_length=rules.MAX_LABELS)] = (
        Field({})
    )

    @model_validator(mode="after")
    def _can_be_dialled(self) -> "BindingBody":
        if wrong := mistake(self.number_x, self.number_a, self.number_b):
            raise PydanticCustomError("at_field", "{text}", {"field": wrong[0], "text": wrong[1]})
        return self

    def binding(self, subs_id: str) -> Binding:
        """Return the binding in the terms of the core."""
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
    """A binding of a batch, with its id."""

    subs_id: SubsId


class BatchBody(Body):
    """Many bindings. Each is validated by itself, so that one mistake does not hide the others."""

    bindings: Annotated[list[Any], Field(max_length=MAX_BATCH)]


class DocumentedBatch(Body):
    """Many bindings."""

    bindings: Annotated[list[ListedBinding], Field(max_length=MAX_BATCH)]


class BatchQuery(QueryModel):
    """How a batch is stored."""

    atomic: Annotated[bool, Field(description="Store all bindings, or none if one of them is refused.")] = (
        False
    )


class CheckQuery(QueryModel):
    """How long to wait for a check."""

    timeout: Annotated[Timeout, Field(description="How many seconds to wait for the provider.")] = 3.0


class HistoryQuery(PageQuery):
    """Which page of a history is wanted."""

    cursor: Annotated[str, Field(description=CURSOR, json_schema_extra={"pattern": f"^$|^{A_PLACE}$"})] = ""


class ExportQuery(QueryModel):
    """Which bindings are exported."""

    pool_key: Annotated[str | None, Field(description="Only bindings of this pool.")] = None
    label: (
        Annotated[
            str,
            Field(
                pattern=r"^[^:=]+[:=]",
                description="Only bindings with this label, as `key=value` or `key:value`.",
            ),
        ]
        | None
    ) = None
    origin: Annotated[
        str | None, Field(description="Only bindings of this origin: `source`, or empty for the API.")
    ] = None


class BindingsQuery(ExportQuery, TableQuery):
    """Which bindings are listed."""


class BindingAnswer(ResponseModel):
    """A binding as it was registered."""

    subs_id: str
    pool_key: str
    number_x: str
    number_a: str
    number_b: str
    extension: str
    expires_at: str
    labels: dict[str, str]


class BindingPage(ResponseModel):
    """One page of bindings. `cursor` is that of the next page, "" at the end."""

    bindings: list[BindingAnswer]
    cursor: str


class BatchResult(ResponseModel):
    """The result for one binding. `not_stored` means that another binding of an atomic batch was refused."""

    subs_id: str
    result: RegistrationOutcome | Literal["refused", "not_stored"]
    error: str


class BatchAnswer(ResponseModel):
    """The results of a batch, in the order of the request."""

    results: list[BatchResult]


class RunAnswer(ResponseModel):
    """A run of equal replies of the provider. Its number is masked."""

    result: str
    status: int
    number: str
    extension: str
    code: str
    request_id: str
    count: int
    first_at: str
    last_at: str
    seconds: float
    generation: int


class ChangeAnswer(ResponseModel):
    """One change of a route."""

    index: int
    version: int
    at: str
    cause: str
    from_state: str
    to_state: str
    action: Action
    number: str
    extension: str
    reason: Reason
    status: int
    flags: list[Flag]
    request_id: str
    expires_at: str
    generation: int
    would: WouldAnswer = OPTIONAL


class HistoryAnswer(ResponseModel):
    """Replies about a binding, changes of its route, and orders for it, newest first.

    The orders are those for the binding, for its pool and for all pools. `cursor` is that of the next page.
    """

    results: list[RunAnswer]
    changes: list[ChangeAnswer]
    orders: list[OrderAnswer]
    cursor: str


class CheckAnswer(ResponseModel):
    """How a check ended, and the route of the binding now."""

    outcome: Literal["answered", "failed", "late"]
    result: str
    route: RouteAnswer


class ExplainAnswer(ResponseModel):
    """Why a binding has its route: what was observed, its override, its next check, and the latest replies.

    `sentences` say it in English, with units. `results` is null if the database cannot be read.
    """

    sentences: list[str]
    route: RouteAnswer
    observed: dict[str, Any]
    override: OverrideAnswer | None
    plan: dict[str, Any] | None
    results: list[RunAnswer] | None


def parse_batch(items: Sequence[Any], start: int) -> list[tuple[str, Binding | FieldError]]:
    """Validate items of a batch. Return the id of each, "" if it has none, and its binding or its first mistake.

    `start` is the index of the first item within the whole batch, for the text of a mistake.
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


def encode_binding(binding: Binding, *, real: bool) -> dict[str, Any]:
    """Return a binding as JSON, with A and B masked unless `real` is set."""
    return {
        "subs_id": binding.subs_id,
        "pool_key": binding.pool_key,
        "number_x": binding.number_x,
        "number_a": binding.number_a if real else mask(binding.number_a),
        "number_b": binding.number_b if real else mask(binding.number_b),
        "extension": binding.extension,
        "expires_at": second(binding.expires_at),
        "labels": dict(binding.labels),
    }


def encode_run(run: Mapping[str, Any]) -> dict[str, Any]:
    """Return a run of equal replies as JSON. Its number is masked, since it may be a real one."""
    return {
        "result": run["result"],
        "status": run["status"],
        "number": mask(run["number"]),
        "extension": run["extension"],
        "code": run["code"],
        "request_id": run["request_id"],
        "count": run["count"],
        "first_at": moment(run["first_at"]),
        "last_at": moment(run["last_at"]),
        "seconds": micro(run["seconds"]),
        "generation": run["generation"],
    }


def encode_change(change: Mapping[str, Any]) -> dict[str, Any]:
    """Return a change of a route as JSON, as it was published to clients without a caller."""
    encoded = {
        "index": change["index"],
        "version": change["version"],
        "at": moment(change["at"]),
        "cause": change["cause"],
        "from_state": change["from_state"],
        "to_state": change["to_state"],
        "action": change["action"],
        "number": change["number"],
        "extension": change["extension"],
        "reason": change["reason"],
        "status": change["status"],
        "flags": [flag for flag in change["flags"].split(",") if flag],
        "request_id": change["request_id"],
        "expires_at": second(change["expires_at"]),
        "generation": change["generation"],
    }
    if change["would_action"]:
        encoded["would"] = {"action": change["would_action"], "reason": change["would_reason"]}
    return encoded
