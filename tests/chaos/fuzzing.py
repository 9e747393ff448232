"""Schemathesis on our app, in this process: all its checks that can be meant seriously here, and one of our own."""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import schemathesis
from fastapi import FastAPI
from schemathesis.engine import events, from_schema
from schemathesis.python.asgi import shutdown_lifespans

from tests.web.laboratory import HERE

ROOT = Path(__file__).parents[2]
SHORTEST_ECHO = 8  # characters; shorter ones occur in our own sentences by chance
WORDS: set[str] = set()  # of the document: an error may say them, whoever sent them
OWN_SOURCE = "\n".join(path.read_text() for package in ("service", "trainer", "search_spaces") for path in (ROOT / package).rglob("*.py"))
STREAM = "/api/v1/studies/{study}/events"
OF_THE_TOOL = (
    "Invalid IPv6 URL",
    "Generating overly large repr",
)  # a call that Schemathesis made up and could not send, and its words for it
SHARED_PATH = ("POST /api/v1/studies/import", "Allow header mismatch")  # the path is also that of a study of this name
schemathesis.serializer.alias("application/x-ndjson", "text/plain")
PHASES = ("examples", "coverage", "fuzzing", "stateful")


@dataclass
class Found:
    """What a run did and what it found."""

    seed: int
    requests: int = 0
    answers: Counter[int] = field(default_factory=Counter)
    unauthenticated: int = 0
    unsent: int = 0
    failures: list[str] = field(default_factory=list)

    @property
    def refused(self) -> int:
        """Answers that were problems."""
        return sum(count for status, count in self.answers.items() if status >= 400)


@schemathesis.check
def errors_are_problems_that_repeat_nothing(_context: Any, response: Any, case: Any) -> None:
    """Each 4xx and 5xx is a problem with an id, and holds no text of the request but its address and the names of its fields.

    Texts that occur in our own source are left out: Hypothesis draws constants of the modules that are loaded, and
    words of our own sentences are among them.
    """
    if response.status_code < 400:
        return
    assert response.headers["content-type"] == ["application/problem+json"], "an error that is no problem"
    problem = json.loads(response.content)
    assert problem["request_id"] and problem["status"] == response.status_code
    said = problem["detail"] + "".join(fault["detail"] for fault in problem.get("errors", ()))
    for text in (*_texts(case.body), *_texts(case.query), *_texts(case.headers)):
        ours = len(text) < SHORTEST_ECHO or text in WORDS or text in OWN_SOURCE
        assert ours or text not in said, f"an error that repeats what was sent: {text!r}"


def _texts(value: object) -> Iterator[str]:
    match value:
        case str():
            yield value
        case dict():
            for item in value.values():
                yield from _texts(item)
        case list() | tuple():
            for item in value:
                yield from _texts(item)


def fuzz(app: FastAPI, *, seed: int, examples: int, phases: Sequence[str], token: str | None = None) -> Found:
    """Run Schemathesis on the app until it has tried all it was asked to."""
    document = json.loads(json.dumps(app.openapi()))
    _put_files_out_of_sight(document)
    WORDS.update(_texts(document))
    config: dict[str, Any] = {
        "seed": seed, "base-url": HERE, "continue-on-failure": True, "max-stream-events": 2, "request-timeout": 20,
        "generation": {"max-examples": examples, "database": "none"},
        "operations": [{"include-path": STREAM, "request-timeout": 4.0}],  # of a study that goes on: cut, and judged by what it sent
        "phases": {phase: {"enabled": phase in phases} for phase in PHASES},
        "checks": {"positive_data_acceptance": {"enabled": False}},  # files, models and conditions are beyond a JSON schema
    }  # fmt: skip
    if token:
        config["auth"] = {"openapi": {"token": {"bearer": token}}}
    schema = schemathesis.openapi.from_dict(document, config=schemathesis.Config.from_dict(config))
    schema.app = app
    try:
        return _gathered(Found(seed), from_schema(schema).execute())
    finally:
        shutdown_lifespans()


def _put_files_out_of_sight(document: dict[str, Any]) -> None:
    """Let the example be a study that this machine has no files for, and accepts nevertheless."""
    content = document["paths"]["/api/v1/studies"]["post"]["requestBody"]["content"]
    example = content["application/json"]["example"]
    example["data"]["location"] = "workers"
    example["model"] = {"name": "squeezenet1_1"}
    content["application/yaml"]["example"] = example  # Schemathesis writes it as YAML; a text it would write as a quoted text


def _gathered(found: Found, stream: Any) -> Found:
    for event in stream:
        match event:
            case events.ScenarioFinished():
                _add(found, event.recorder)
            case events.NonFatalError() if any(word in str(event.value) for word in OF_THE_TOOL):
                found.unsent += 1
            case events.NonFatalError():
                found.failures.append(f"{event.label}: {event.value}")
            case events.FatalError():
                raise event.exception
    return found


def _add(found: Found, recorder: Any) -> None:
    for interaction in recorder.interactions.values():
        if interaction.response is not None:
            found.requests += 1
            found.answers[interaction.response.status_code] += 1
            found.unauthenticated += interaction.response.status_code == 401
    for checks in recorder.checks.values():
        for check in checks:
            if check.failure_info is not None:
                failure = check.failure_info.failure
                if (failure.operation, failure.title) == SHARED_PATH:
                    continue
                found.failures.append(
                    f"{failure.operation}: {failure.title}: {failure.message[:500]}\n{check.failure_info.code_sample[:500]}"
                )
