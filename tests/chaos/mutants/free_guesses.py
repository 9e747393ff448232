"""Wrong tokens by GET are refused as often as anybody likes."""

SCENARIO = "tests/chaos/test_f16_access.py::test_strangers_do_not_slow_who_has_the_token[sqlite]"


def plant() -> None:
    from service.web import app, middleware

    class Endless(middleware.Buckets):
        """A bucket that is never empty; the one of refused requests, which the app makes itself."""

        def wait(self, client: str) -> float:
            return 0.0

    app.Buckets = Endless  # type: ignore[attr-defined]
