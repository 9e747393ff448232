"""Databases of releases, and a recorder of the answers of a server on them."""

import json
import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from httpx2 import Response
from starlette.testclient import TestClient

from service.settings import Settings
from service.store import Store, open_store
from service.store.migrate import upgrade
from service.web.app import create_app
from tests.web.laboratory import HERE

API = "/api/v1"
STUDY = f"{API}/studies/{{study}}"
TRIAL = f"{STUDY}/trials/{{number}}"
OF_EACH_STUDY = ("", "/confirmation", "/trials", "/changes", "/table", "/curves", "/pruning")
PRESENT = "schema-0010"  # the release that has this version's schema
RELEASES = Path(__file__).parent / "releases"
MOVING = {"seconds_left", "silent_seconds", "sweep_age_seconds"}  # numbers that follow from the time of day
WITHOUT_BODY = ("text/html", "text/css", "text/javascript")


@contextmanager
def restored(release: str, folder: Path) -> Iterator[Store]:
    """The database of that release, in a new file, with the schema of this version."""
    with closing(sqlite3.connect(folder / "thawline.db")) as connection:
        connection.executescript((RELEASES / release / "database.sql").read_text())
    url = f"sqlite:///{folder / 'thawline.db'}"
    upgrade(url)
    with closing(open_store(url)) as store:
        yield store


class Recorder:
    """A server on a store, and its answers. It does not look for lost workers."""

    def __init__(self, store: Store, settings: Settings) -> None:
        self.app: FastAPI = create_app(store, settings)
        self.answers = list[dict[str, Any]]()
        self._client = TestClient(self.app, base_url=HERE, follow_redirects=False)

    def ask(self, method: str, route: str, *, query: str = "", study: str = "", number: int = 0, name: str = "", **sent: Any) -> Response:
        """One call, recorded with the route as the app names it."""
        path = route.format(study=study, number=number, name=name, worker=name, claim=name) + query
        answer = self._client.request(method, path, **sent)
        kind = answer.headers.get("content-type", "").partition(";")[0]
        record = {"call": f"{method} {path}", "route": f"{method} {route}", "status": answer.status_code, "type": kind}
        if "location" in answer.headers:
            record["location"] = answer.headers["location"]
        if not kind.startswith(WITHOUT_BODY):
            record["body"] = body_of(answer, kind)
        self.answers.append(record)
        return answer


def body_of(answer: Response, kind: str) -> Any:
    """JSON as its value, other text as its lines."""
    if kind == "application/x-ndjson":
        lines = [json.loads(line) for line in answer.text.splitlines()]
        lines[-1]["sha256"] = "<sha256>"  # of the text, in which the order of members counts
        return lines
    return answer.json() if kind.endswith("json") else answer.text.splitlines()


def steady(value: Any, key: str = "") -> Any:
    """The value with placeholders for members that differ from call to call."""
    match value:
        case dict():
            return {own: steady(item, own) for own, item in value.items()}
        case list():
            return [steady(item) for item in value]
        case float() if key in MOVING:
            return "<seconds>"
        case str() if key in ("request_id", "token"):
            return "<request>" if key == "request_id" else "<token>"
    return value


def anonymous(value: Any, key: str = "") -> Any:
    """`steady`, with placeholders for ids and times too."""
    match value:
        case dict():
            return {own: anonymous(item, own) for own, item in value.items()}
        case list():
            return [anonymous(item) for item in value]
        case str() if key not in ("request_id", "token"):
            return re.sub(r"\b[0-9a-f]{16}\b", "<id>", re.sub(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", "<time>", value))
    return steady(value, key)
