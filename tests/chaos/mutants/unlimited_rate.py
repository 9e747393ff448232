"""One address may change as many things as it likes, and guess at the token as often."""

SCENARIO = "tests/chaos/test_f16_access.py::test_a_flood_of_changes_and_guesses_is_told_to_wait[sqlite]"


def plant() -> None:
    from service.web.middleware import Buckets

    def never(self: Buckets, client: str) -> float:
        return 0.0

    Buckets.wait = never  # type: ignore[method-assign]
