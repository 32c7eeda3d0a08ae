"""The OpenAPI 3.1 document, made from the table of endpoints and the models it names."""

import re
from collections.abc import Iterable, Iterator
from http import HTTPStatus
from inspect import getdoc
from typing import Any

import orjson
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from precall.api.endpoints import Operation
from precall.api.handlers.changes import INDEX, LAST_EVENT_ID
from precall.api.handlers.routes import CALLER
from precall.api.problems import CONTENT_TYPE
from precall.api.schemas.fields import A_CALLER
from precall.api.schemas.problems import ProblemAnswer
from precall.config.schema import SCOPES

_SCHEMAS = "#/components/schemas/"
_IN_PATH = re.compile(r"\{(\w+)\}")
_AREAS = {"operations": "ops"}
"""Tags that are not named as their module: generated clients hold on to them."""
_COMPONENTS = {
    "RegistrationOutcome": "Registered",
    "CallResult": "Result",
    "CallSource": "Source",
    "SyncOutcome": "Fate",
}
"""Schemas that are not named as their class, for the same reason."""
_TEXT_FORM = "`ACTION,NUMBER`, with `,EXTENSION` when there is one"


def document(endpoints: Iterable[Operation], version: str) -> dict[str, Any]:
    """The whole document."""
    endpoints = list(endpoints)
    models: set[type[BaseModel]] = {ProblemAnswer, *(model for one in endpoints for model in _models(one))}
    _, schemas = models_json_schema(
        [(model, "validation") for model in sorted(models, key=lambda model: model.__name__)],
        ref_template=f"{_SCHEMAS}{{model}}",
    )
    paths: dict[str, dict[str, Any]] = {}
    for endpoint in endpoints:
        paths.setdefault(endpoint.path, {})[endpoint.method.lower()] = _operation(endpoint)
    return _renamed(
        {
            "openapi": "3.1.0",
            "info": {
                "title": "precall",
                "version": version,
                "description": "What to dial now for a number-privacy binding. Without configured tokens no"
                " authorization is needed; requests must then come from this machine.",
                "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
            },
            "paths": paths,
            "components": {
                "schemas": schemas["$defs"],
                "securitySchemes": {
                    "token": {
                        "type": "http",
                        "scheme": "bearer",
                        "description": f"Scopes, none implying another: {', '.join(SCOPES)}.",
                    }
                },
            },
        }
    )


def _renamed(whole: dict[str, Any]) -> dict[str, Any]:
    """The document with the schema names of `_COMPONENTS`, where they are defined and where they are referred to."""
    text = orjson.dumps(whole).decode()
    for ours, published in _COMPONENTS.items():
        text = re.sub(
            rf'(?<="){ours}(?=":{{)|(?<="title":"){ours}(?=")|(?<={_SCHEMAS}){ours}(?=")', published, text
        )
    renamed: dict[str, Any] = orjson.loads(text)
    return renamed


def _models(endpoint: Operation) -> Iterator[type[BaseModel]]:
    if endpoint.body is not None:
        yield endpoint.body
    for answer in endpoint.answers.values():
        if isinstance(answer, type):
            yield answer


def _operation(endpoint: Operation) -> dict[str, Any]:
    handler = endpoint.handle
    module = handler.__module__.rpartition(".")[2]
    area = _AREAS.get(module, module)
    text = getdoc(handler) or ""
    operation: dict[str, Any] = {
        "operationId": f"{area}_{handler.__name__}",
        "tags": [area],
        "summary": text.partition(".")[0].replace("\n", " "),
        "description": text,
        "security": [] if endpoint.scope is None else [{"token": [endpoint.scope]}],
        "parameters": _parameters(endpoint),
        "responses": _responses(endpoint),
    }
    if endpoint.body is not None:
        required = any(field.is_required() for field in endpoint.body.model_fields.values())
        schema = {"$ref": f"{_SCHEMAS}{endpoint.body.__name__}"}
        operation["requestBody"] = {"required": required, "content": {"application/json": {"schema": schema}}}
    return operation


def _parameters(endpoint: Operation) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in _IN_PATH.findall(endpoint.path)
    ]
    if endpoint.query is not None:
        schema = endpoint.query.model_json_schema(ref_template=f"{_SCHEMAS}{{model}}")
        own = schema.get("$defs", {})
        found += [
            {
                "name": name,
                "in": "query",
                "required": name in schema.get("required", ()),
                "schema": _present(one, own),
            }
            for name, one in schema["properties"].items()
        ]
    if endpoint.tagged or endpoint.path == "/v1/routes/lookup":
        number = {"type": "string", "pattern": A_CALLER}
        found.append({"name": CALLER, "in": "header", "required": False, "schema": number})
    if endpoint.path == "/v1/routes/stream":
        index = {"type": "string", "pattern": "^[0-9]{0,18}$"}
        found.append({"name": LAST_EVENT_ID, "in": "header", "required": False, "schema": index})
    if endpoint.tagged:
        found.append(
            {"name": "If-None-Match", "in": "header", "required": False, "schema": {"type": "string"}}
        )
    return found


def _present(schema: dict[str, Any], own: dict[str, Any]) -> dict[str, Any]:
    """The schema of a parameter that is there: absent is not null, and its few own definitions are put in place."""
    kinds = [kind for kind in schema.get("anyOf", ()) if kind != {"type": "null"}]
    shown = {key: value for key, value in schema.items() if key not in ("anyOf", "default", "title")}
    if schema.get("default") is not None:
        shown["default"] = schema["default"]
    for kind in kinds:
        shown |= kind
    if reference := shown.pop("$ref", None):
        shown |= {
            key: value for key, value in own[reference.removeprefix(_SCHEMAS)].items() if key != "title"
        }
    return shown


def _responses(endpoint: Operation) -> dict[str, Any]:
    found = {str(status): _answer(status, answer) for status, answer in endpoint.answers.items()}
    if endpoint.tagged:
        found["200"]["content"]["text/plain"] = {"schema": {"type": "string", "description": _TEXT_FORM}}
        tag = {"schema": {"type": "string"}, "description": "over the body less its age"}
        found["200"]["headers"] = {"ETag": tag}
        found["304"] = {"description": "unchanged, its age aside"}
    if endpoint.path == "/v1/routes/snapshot":
        since = {
            "schema": {"type": "integer"},
            "description": "the index from which on to follow the changes",
        }
        found["200"]["headers"] = {INDEX: since}
    for status in sorted(_problems(endpoint)):
        found.setdefault(str(status), _problem(status))
    return dict(sorted(found.items()))


def _problems(endpoint: Operation) -> set[int]:
    statuses = {*endpoint.problems, 403, 500}
    if endpoint.scope is not None:
        statuses |= {401, 429, 503}  # 503: it starts, or stands by
    if endpoint.query is not None:
        statuses.add(400)
    if endpoint.body is not None:
        statuses |= {400, 408, 413, 415, 422}
    return statuses


def _answer(status: int, answer: type[BaseModel] | str | None) -> dict[str, Any]:
    shown: dict[str, Any] = {"description": HTTPStatus(status).phrase}
    match answer:
        case None:
            pass
        case str():
            kind = "object" if answer == "application/json" else "string"
            shown["content"] = {answer: {"schema": {"type": kind}}}
        case _:
            shown["content"] = {"application/json": {"schema": {"$ref": f"{_SCHEMAS}{answer.__name__}"}}}
    return shown


def _problem(status: int) -> dict[str, Any]:
    schema = {"$ref": f"{_SCHEMAS}{ProblemAnswer.__name__}"}
    shown: dict[str, Any] = {
        "description": HTTPStatus(status).phrase,
        "content": {CONTENT_TYPE: {"schema": schema}},
    }
    if status in (429, 503):
        shown["headers"] = {"Retry-After": {"schema": {"type": "integer"}, "description": "seconds"}}
    return shown
