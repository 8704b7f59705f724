"""The OpenAPI document, made of the routes and the models that serve them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from http import HTTPStatus
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

import crdtbucket
from crdtbucket.http.fields import PROBLEM_TYPE
from crdtbucket.http.server.forward_auth import FORWARD_AUTH
from crdtbucket.http.server.json_answer import JSON
from crdtbucket.http.server.replies import ProblemReply
from crdtbucket.http.server.routes import Route
from crdtbucket.http.server.tokens import CALLS

BEARER = {"type": "http", "scheme": "bearer"}
REF = "#/components/schemas/{model}"
# Of the decisions themselves; the others are in every HTTP book.
FIELDS = {
    "RateLimit": 'Tokens left and seconds to the next: `"api";r=97;t=1`.',
    "RateLimit-Policy": 'The capacity and the seconds in which it fills: `"api";q=100;w=10`.',
}
DECIDING = ("/v1/take", "/v1/peek", "/v1/reserve", FORWARD_AUTH)


def document(routes: Iterable[Route]) -> dict[str, Any]:
    """OpenAPI 3.1 for these routes."""
    routes = list(routes)
    models: list[type[BaseModel]] = [ProblemReply]
    for route in routes:
        models += [one for one in (route.body, route.answer, route.denied) if one is not None]
    unique = [(one, "validation") for one in dict.fromkeys(models)]
    _, schemas = models_json_schema(unique, ref_template=REF)  # type: ignore[arg-type]
    paths: dict[str, Any] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route)
    return {
        "openapi": "3.1.0",
        "info": {"title": "crdtbucket", "version": crdtbucket.__version__},
        "paths": paths,
        "components": {
            "schemas": schemas["$defs"],
            "securitySchemes": {"admin": BEARER, "call": BEARER},
        },
    }


def _operation(route: Route) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": re.sub(r"\W+", "_", f"{route.method.lower()}{route.path}").strip("_"),
        "summary": route.summary,
        "responses": _responses(route),
    }
    parameters = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
        for name in re.findall(r"{(\w+)}", route.path)
    ]
    parameters += [
        {"name": name, "in": "query", "schema": dict(schema)}
        for name, schema in route.query.items()
    ]
    if parameters:
        operation["parameters"] = parameters
    if route.body is not None:
        schema = {"$ref": REF.format(model=route.body.__name__)}
        operation["requestBody"] = {"required": True, "content": {JSON: {"schema": schema}}}
    if route.admin:
        operation["security"] = [{"admin": []}]
    elif route.path.startswith(CALLS):  # none where the server has no token
        operation["security"] = [{}, {"call": []}, {"admin": []}]
    return operation


def _responses(route: Route) -> dict[str, Any]:
    schema = {} if route.answer is None else {"$ref": REF.format(model=route.answer.__name__)}
    if route.media != JSON:
        schema = {"type": "string"}
    success: dict[str, Any] = {"description": "OK", "content": {route.media: {"schema": schema}}}
    if route.status == HTTPStatus.NO_CONTENT:
        success = {"description": "The request may pass"}
    if route.path in DECIDING:
        success["headers"] = {
            name: {"description": text, "schema": {"type": "string"}}
            for name, text in FIELDS.items()
        }
    responses = {str(route.status): success}
    for status in sorted({*route.denials, *route.refusals, 503}):
        denied = route.denied if status in route.denials else None
        model = "ProblemReply" if denied is None else denied.__name__
        content = {"schema": {"$ref": REF.format(model=model)}}
        responses[str(status)] = {
            "description": HTTPStatus(status).phrase,
            "content": {PROBLEM_TYPE if denied is None else JSON: content},
        }
    return responses
