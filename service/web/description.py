"""The OpenAPI document, with what the framework cannot know: how to show the token, and what a stream is."""

import json
import re
from typing import Any

from fastapi import FastAPI

from service.web.session import COOKIE

WAYS_IN: dict[str, Any] = {
    "token": {"type": "http", "scheme": "bearer", "description": "THAW_TOKEN of the server"},
    "session": {"type": "apiKey", "in": "cookie", "name": COOKIE, "description": "what a browser gets at /login"},
}
REFERENCE = re.compile(r'"#/components/schemas/([^"]+)"')
PUBLIC = frozenset({"/livez"})


def describe(app: FastAPI, *, locked: bool, root_path: str = "") -> None:
    """Let the app's document say below which prefix it is, and that all but the public paths ask for the token, if they do."""
    framework = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = framework()
            _drop_schemas_of_streams(document)
            _drop_unused_schemas(document)
            if root_path:
                document["servers"] = [{"url": root_path}]
            if locked:
                _ask_for_token(document)
        assert app.openapi_schema is not None  # noqa: S101  (the framework keeps it; tells mypy)
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]


def _drop_schemas_of_streams(document: dict[str, Any]) -> None:
    """The framework's `string` would be the schema of each event, and an event is none."""
    for operations in document["paths"].values():
        for operation in operations.values():
            for answer in operation["responses"].values():
                answer.get("content", {}).get("text/event-stream", {}).pop("schema", None)


def _drop_unused_schemas(document: dict[str, Any]) -> None:
    """The framework lists the base models too whose fields a task's own model replaces."""
    schemas = document["components"]["schemas"]
    while unused := schemas.keys() - set(REFERENCE.findall(json.dumps(document))):
        for name in unused:
            del schemas[name]


def _ask_for_token(document: dict[str, Any]) -> None:
    document["components"]["securitySchemes"] = WAYS_IN
    document["security"] = [{name: []} for name in WAYS_IN]
    for path in PUBLIC & document["paths"].keys():
        for operation in document["paths"][path].values():
            operation["security"] = []
