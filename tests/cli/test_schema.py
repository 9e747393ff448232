"""`thaw study schema` prints the schema of study files without a server."""

import json
from collections.abc import Callable
from typing import Any

from service.domain.study_schema import document_schema
from trainer.configuration import FIRST_TASK
from trainer.tasks import registry

Thaw = Callable[..., Any]


def test_the_schema_is_printed_where_no_server_is(thaw: Thaw) -> None:
    server = ("--server", "http://127.0.0.1:9")
    printed = thaw(*server, "study", "schema")
    assert (printed.code, printed.err) == (0, "")
    assert json.loads(printed.out) == document_schema(FIRST_TASK)
    assert thaw(*server, "study", "schema", "--task", FIRST_TASK).out == printed.out


def test_a_task_that_is_not_installed_is_faulty_input(thaw: Thaw) -> None:
    refused = thaw("study", "schema", "--task", "poetry")
    assert (refused.code, refused.out) == (2, "")
    listed = ", ".join(sorted(registry.SHIPPED))
    assert refused.err == f"#/task  no such task is installed; choose one of {listed}\n"
