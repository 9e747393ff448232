"""Data that a worker cannot read is a failure of the study, as if its content had changed."""

SCENARIO = "tests/chaos/test_f19_missing_data.py -k sqlite"


def plant() -> None:
    from service.worker.process import TrainerMessage, TrainerProcess
    from trainer.protocol import Failed, Unavailable

    parsed = TrainerProcess._parsed

    def as_failure(self: TrainerProcess) -> TrainerMessage | None:
        line = parsed(self)
        return Failed(lane=line.lane, reason="bad_data", detail=line.detail) if isinstance(line, Unavailable) else line

    TrainerProcess._parsed = as_failure  # type: ignore[method-assign]
