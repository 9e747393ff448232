"""A worker that cannot renew its leases lets its trainers train on."""

SCENARIO = "tests/chaos/test_f09_network.py::test_a_trainer_is_killed_before_anyone_else_may_claim_its_trial[sqlite]"


def plant() -> None:
    from service.worker.context import Leases

    Leases.end_untrusted = lambda self: None  # type: ignore[method-assign]
