"""A connection whose client takes nothing is never cut."""

SCENARIO = "tests/chaos/test_f13_slow.py -k 'slow_clients and sqlite'"


def plant() -> None:
    from service.web import serve
    from service.web.serve import Protocol

    serve.DEAD_PEER_MILLISECONDS = 0  # the kernel's own patience
    Protocol._cut = lambda self: None  # type: ignore[method-assign]
