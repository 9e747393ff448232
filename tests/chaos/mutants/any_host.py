"""The server answers to every name, as a page needs that rebinds its own name to this address."""

from starlette.types import Scope

SCENARIO = "tests/chaos/test_f16_access.py::test_no_route_answers_to_a_foreign_name[sqlite]"


def plant() -> None:
    from service.web.auth import HostMiddleware

    def anything(self: HostMiddleware, scope: Scope) -> bool:
        return True

    HostMiddleware._is_ours = anything  # type: ignore[method-assign]
