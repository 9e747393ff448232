"""What a problem must look like."""

from typing import Any

from httpx2 import Response


def assert_problem(answer: Response, status: int, slug: str) -> dict[str, Any]:
    """The body of an answer that is the problem it should be."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    body: dict[str, Any] = answer.json()
    assert body["type"] == f"urn:thawline:problem:{slug}"
    assert body["status"] == status
    assert body["title"] and body["detail"]
    assert body["request_id"] == answer.headers["x-request-id"]
    return body
