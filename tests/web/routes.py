"""Every route of the app, as the app itself lists them, so that a new one is in each test that walks them."""

from collections.abc import Iterator

from fastapi import FastAPI
from fastapi.routing import iter_route_contexts
from starlette.routing import Mount

from service.web import SAFE_METHODS
from service.web.auth import PUBLIC_PATHS

VALUES = {"{study}": "digits", "{number}": "0", "{worker}": "box", "{name}": "resnet18", "{claim}": "0123456789abcdef-0-1"}


def routes_of(app: FastAPI) -> Iterator[tuple[str, str]]:
    """Every (method, path) of the app, mounts too, with a value for each parameter."""
    for route in iter_route_contexts(app.routes):
        path = route.path or ""
        for parameter, value in VALUES.items():
            path = path.replace(parameter, value)
        assert "{" not in path, f"tests.web.routes has no value for a parameter of {path}"
        if isinstance(route.route, Mount):
            yield "GET", f"{path}/thawline.css"
        else:
            methods = set(route.methods or ()) - {"HEAD"}  # answered as GET is, without a body: see test_addressing
            yield from ((method, path) for method in sorted(methods))


def locked_routes_of(app: FastAPI) -> list[tuple[str, str]]:
    """Those that ask for the token."""
    found = [(method, path) for method, path in routes_of(app) if path not in PUBLIC_PATHS]
    known = {("GET", "/"), ("GET", "/openapi.json"), ("GET", "/api/v1/studies/digits/events"), ("DELETE", "/api/v1/studies/digits")}
    assert known <= set(found)
    return found


def changing_routes_of(app: FastAPI) -> list[tuple[str, str]]:
    """Those that may change something."""
    found = [(method, path) for method, path in routes_of(app) if method not in SAFE_METHODS]
    assert len(found) >= 8, found
    return found
