"""The OpenAPI 3.1 document, made from the table of operations and the models that it names."""

import re
from collections.abc import Iterable, Iterator
from http import HTTPStatus
from inspect import getdoc
from typing import Any

import orjson
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from precall.api.handlers.changes import INDEX, LAST_EVENT_ID
from precall.api.handlers.routes import CALLER
from precall.api.operation import Operation
from precall.api.problems import CONTENT_TYPE
from precall.api.schemas.fields import A_CALLER
from precall.api.schemas.problems import ProblemAnswer
from precall.config.schema import SCOPES

_AN_INDEX = "^[0-9]{0,18}$"
_SCHEMAS = "#/components/schemas/"
_IN_PATH = re.compile(r"\{(\w+)\}")
_AREAS = {"operations": "ops"}
"""Tags that are not named after their module. Generated clients depend on these names."""
_COMPONENTS = {
    "RegistrationOutcome": "Registered",
    "CallResult": "Result",
    "CallSource": "Source",
    "SyncOutcome": "Fate",
}
"""Schemas that are not named after their class, for the same reason."""
_PATH_PARAMETERS = {
    "subs_id": "The provider's id of the binding.",
    "call_id": "The provider's id of the call.",
    "secret": "The secret whose SHA-256 is `api.receipts_secret_sha256`.",
}
_ABOUT = """\
Returns what to dial now for a number-privacy binding.

Without configured tokens no authorization is needed, and requests must come from this machine.

Later versions may add members to a response, and values to a set such as `State` or `Code`: ignore unknown ones.
Requests are strict: an unknown member or parameter is refused.
"""
_TEXT_FORM = "`ACTION,NUMBER`, with `,EXTENSION` when there is one"


def document(endpoints: Iterable[Operation], version: str) -> dict[str, Any]:
    """Return the document as JSON."""
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
                "description": _ABOUT,
                "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
            },
            "paths": paths,
            "components": {
                "schemas": schemas["$defs"],
                "securitySchemes": {
                    "token": {
                        "type": "http",
                        "scheme": "bearer",
                        "description": f"Scopes, of which none implies another: {', '.join(SCOPES)}.",
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
    operation: dict[str, Any] = {
        "operationId": f"{area}_{handler.__name__}",
        "tags": [area],
        "summary": endpoint.summary,
        "description": _unwrapped(getdoc(handler) or ""),
        "security": [] if endpoint.scope is None else [{"token": [endpoint.scope]}],
        "parameters": _parameters(endpoint),
        "responses": _responses(endpoint),
    }
    if endpoint.body is not None:
        required = any(field.is_required() for field in endpoint.body.model_fields.values())
        schema = {"$ref": f"{_SCHEMAS}{endpoint.body.__name__}"}
        operation["requestBody"] = {"required": required, "content": {"application/json": {"schema": schema}}}
    return operation


def _unwrapped(text: str) -> str:
    """Join the lines of each paragraph."""
    return "\n\n".join(paragraph.replace("\n", " ") for paragraph in text.split("\n\n"))


def _parameters(endpoint: Operation) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = [
        {
            "name": name,
            "in": "path",
            "required": True,
            "description": _PATH_PARAMETERS[name],
            "schema": {"type": "string"},
        }
        for name in _IN_PATH.findall(endpoint.path)
    ]
    if endpoint.query is not None:
        schema = endpoint.query.model_json_schema(ref_template=f"{_SCHEMAS}{{model}}")
        own, required = schema.get("$defs", {}), schema.get("required", ())
        found += [
            _query_parameter(name, name in required, _present(one, own))
            for name, one in schema["properties"].items()
        ]
    if endpoint.tagged or endpoint.path == "/v1/routes/lookup":
        text = "The parameter `caller` as a header, which proxies do not log."
        found.append(_header(CALLER, text, A_CALLER))
    if endpoint.path == "/v1/routes/stream":
        found.append(
            _header(LAST_EVENT_ID, "The id of the last event received; it outranks `since`.", _AN_INDEX)
        )
    if endpoint.tagged:
        found.append(
            _header("If-None-Match", "The ETag of an earlier response; 304 if nothing but its age changed.")
        )
    return found


def _query_parameter(name: str, required: bool, schema: dict[str, Any]) -> dict[str, Any]:
    about: dict[str, Any] = {key: schema.pop(key) for key in ("description", "deprecated") if key in schema}
    return {"name": name, "in": "query", "required": required, **about, "schema": schema}


def _header(name: str, text: str, pattern: str = "") -> dict[str, Any]:
    schema = {"type": "string", "pattern": pattern} if pattern else {"type": "string"}
    return {"name": name, "in": "header", "required": False, "description": text, "schema": schema}


def _present(schema: dict[str, Any], own: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of a parameter that is given: it is not null, and its definitions stand in place."""
    kinds = [kind for kind in schema.get("anyOf", ()) if kind != {"type": "null"}]
    shown = {key: value for key, value in schema.items() if key not in ("anyOf", "default", "title")}
    if schema.get("default") is not None:
        shown["default"] = schema["default"]
    for kind in kinds:
        shown = kind | shown
    if reference := shown.pop("$ref", None):
        shown = {
            key: value for key, value in own[reference.removeprefix(_SCHEMAS)].items() if key != "title"
        } | shown
    return shown


def _responses(endpoint: Operation) -> dict[str, Any]:
    found = {str(status): _answer(status, answer) for status, answer in endpoint.answers.items()}
    if endpoint.tagged:
        found["200"]["content"]["text/plain"] = {"schema": {"type": "string", "description": _TEXT_FORM}}
        tag = {"schema": {"type": "string"}, "description": "A tag of the body without its age."}
        found["200"]["headers"] = {"ETag": tag}
        found["304"] = {"description": "Unchanged, apart from its age."}
    if endpoint.path == "/v1/routes/snapshot":
        since = {
            "schema": {"type": "integer"},
            "description": "The index to follow the changes from.",
        }
        found["200"]["headers"] = {INDEX: since}
    for status in sorted(_problems(endpoint)):
        found.setdefault(str(status), _problem(status))
    return dict(sorted(found.items()))


def _problems(endpoint: Operation) -> set[int]:
    statuses = {*endpoint.problems, 403, 500}
    if endpoint.scope is not None:
        statuses |= {401, 429, 503}  # 503: it is starting, or stands by
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
        shown["headers"] = {
            "Retry-After": {
                "schema": {"type": "integer"},
                "description": "How many seconds to wait before the next try.",
            }
        }
    return shown
