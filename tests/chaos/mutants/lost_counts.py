"""A trial whose worker was lost counts as a failure of the study."""

from dataclasses import replace

SCENARIO = "tests/chaos/test_failures.py -k 'machines and sqlite'"


def plant() -> None:
    from service.domain import failures

    failures.POLICIES = {**failures.POLICIES, "lost": replace(failures.POLICIES["lost"], counts=True)}
    failures.COUNTING |= {"lost"}
