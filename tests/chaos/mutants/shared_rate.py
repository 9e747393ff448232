"""Requests without the token spend the rate of those that have it."""

SCENARIO = "tests/chaos/test_f16_access.py::test_strangers_do_not_slow_who_has_the_token[sqlite]"


def plant() -> None:
    from service.web import app, middleware

    shared, wait = dict[float, middleware.Buckets](), middleware.Buckets.wait

    class Shared(middleware.Buckets):
        """One bucket for all that is asked of a process."""

        def wait(self, client: str) -> float:
            return wait(shared.setdefault(self.per_second, self), client)

    app.Buckets = middleware.Buckets = Shared  # type: ignore[attr-defined, misc]
