"""DELETE counts as a safe method, so that another site's page may send it."""

SCENARIO = "tests/chaos/test_f16_access.py::test_no_route_changes_anything_for_another_site[sqlite]"


def plant() -> None:
    from service.web import auth

    auth.SAFE_METHODS = frozenset({*auth.SAFE_METHODS, "DELETE"})  # type: ignore[attr-defined]
