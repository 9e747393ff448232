"""Text from outside is stored with its escape sequences."""

SCENARIO = "tests/chaos/test_f16_access.py::test_no_escape_sequence_is_stored[sqlite]"


def plant() -> None:
    from service.store import codec

    codec.clean = lambda text: text  # type: ignore[attr-defined]
