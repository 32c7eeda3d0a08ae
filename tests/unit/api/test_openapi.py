"""The OpenAPI document: valid, and neither more nor less than the table of endpoints."""

import json
import re
from typing import Any, get_args

import orjson
import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from precall.api.endpoints import ENDPOINTS
from precall.api.openapi import document
from precall.api.operation import Operation
from precall.api.problems import Code
from precall.config.schema import Scope


@pytest.fixture(scope="module", name="spec")
def _spec() -> dict[str, Any]:
    return json.loads(orjson.dumps(document(ENDPOINTS, "1.2.3")))  # type: ignore[no-any-return]


def test_the_openapi_document_is_valid(spec: dict[str, Any]) -> None:
    assert list(OpenAPIV31SpecValidator(spec).iter_errors()) == []


def test_the_openapi_document_has_exactly_the_endpoints(spec: dict[str, Any]) -> None:
    named = {(method.upper(), path) for path, item in spec["paths"].items() for method in item}
    assert named == {(one.method, one.path) for one in ENDPOINTS}
    assert len(named) == len(ENDPOINTS)


def test_operation_ids_are_unique(spec: dict[str, Any]) -> None:
    names = [operation["operationId"] for item in spec["paths"].values() for operation in item.values()]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("endpoint", ENDPOINTS, ids=lambda one: f"{one.method} {one.path}")
def test_every_operation_documents_scope_request_and_responses(
    spec: dict[str, Any], endpoint: Operation
) -> None:
    operation = spec["paths"][endpoint.path][endpoint.method.lower()]
    assert 2 <= len(operation["summary"].split()) <= 8
    assert not operation["summary"].endswith(".")
    assert operation["description"].endswith(".")
    assert "\n" not in operation["description"].replace("\n\n", "")
    assert all(one["description"] for one in operation["parameters"])
    wanted = [] if endpoint.scope is None else [{"token": [endpoint.scope]}]
    assert operation["security"] == wanted
    assert ("requestBody" in operation) == (endpoint.body is not None)
    assert {str(status) for status in endpoint.answers} <= operation["responses"].keys()
    in_path = [one["name"] for one in operation["parameters"] if one["in"] == "path"]
    assert in_path == re.findall(r"\{(\w+)\}", endpoint.path)


def test_every_error_code_and_scope_is_documented(spec: dict[str, Any]) -> None:
    assert set(spec["components"]["schemas"]["Code"]["enum"]) == set(Code)
    assert {one.scope for one in ENDPOINTS if one.scope} <= set(get_args(Scope))


def test_parameters_are_inlined(spec: dict[str, Any]) -> None:
    listing = spec["paths"]["/v1/routes"]["get"]["parameters"]
    by_name = {one["name"]: one["schema"] for one in listing}
    assert by_name["action"]["enum"] == ["dial_x", "dial_temp_x", "dial_real", "hold", "expired"]
    assert by_name["limit"] == {"type": "integer", "minimum": 1, "maximum": 1000, "default": 100}
    assert "$defs" not in json.dumps(spec)


def test_response_schemas_are_open_and_request_schemas_strict(spec: dict[str, Any]) -> None:
    schemas = spec["components"]["schemas"]
    objects = {name for name, schema in schemas.items() if schema.get("type") == "object"}
    sent = {name for name in objects if name.endswith("Body") or name in ("DocumentedBatch", "ListedBinding")}
    assert sent
    for name in objects:
        assert schemas[name]["additionalProperties"] is (name not in sent), name
    assert "ignore unknown ones" in spec["info"]["description"]


def test_the_earlier_name_of_a_parameter_is_deprecated(spec: dict[str, Any]) -> None:
    by_name = {one["name"]: one for one in spec["paths"]["/v1/report"]["get"]["parameters"]}
    assert by_name["since"]["deprecated"] is True
    assert "deprecated" not in by_name["within"]
    assert by_name["within"]["schema"]["default"] == 86_400
