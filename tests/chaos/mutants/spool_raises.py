"""A result that can be neither stored nor spooled raises, and is gone with the run that told it."""

SCENARIO = "tests/chaos/test_f06_full_disk.py::test_a_full_disk_loses_nothing_and_heals_by_itself[sqlite]"


def plant() -> None:
    from functools import partial

    from service.operations import Write
    from service.worker.home import Spool, _dump
    from trainer import files

    def keep(self: Spool, write: Write) -> bool:
        files.write(self._paths(write.lease)[0], partial(_dump, write))
        return True

    Spool.keep = keep  # type: ignore[method-assign]
