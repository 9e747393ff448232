"""The attempts at a trial and their logs, as the interface tells of them."""

from datetime import datetime

from pydantic import Field

from service.domain.records import Attempt, LogChunk
from service.domain.states import AttemptEnd
from service.web.view import View, instant, instant_or_none


class AttemptView(View):
    """One try at a trial, from its claim to its end."""

    attempt: int = Field(examples=[1])
    worker: str
    resumed: int = Field(description="the epoch of the checkpoint that it went on from; 0 from the beginning")
    started_at: datetime
    ended_at: datetime | None
    ending: AttemptEnd | None = Field(description="null while it runs; after released, lost and crashed the trial may have another attempt")
    step: int | None = Field(description="the last reported epoch when it ended")
    detail: str | None


class ChunkView(View):
    """Lines of a log that were written together."""

    seq: int = Field(description="from 1 in each attempt, without a gap", examples=[1])
    at: datetime
    text: str = Field(examples=["2026-11-22T09:30:00Z INFO trainer.chronicle: epoch 1 of 8: loss 0.8213, accuracy 0.7125\n"])


class LogView(View):
    """A part of an attempt's log."""

    number: int
    attempt: int | None = Field(description="whose log it is; null while the trial has not begun")
    attempts: list[AttemptView]
    chunks: list[ChunkView]
    next: int | None = Field(description="give it as ?after= to get the next part; null when this was the last so far")


def attempt_view(attempt: Attempt) -> AttemptView:
    """The attempt in the interface's words."""
    return AttemptView(
        attempt=attempt.attempt, worker=attempt.worker, resumed=attempt.resumed, started_at=instant(attempt.started_at),
        ended_at=instant_or_none(attempt.ended_at), ending=attempt.ending, step=attempt.step, detail=attempt.detail,
    )  # fmt: skip


def chunk_view(chunk: LogChunk) -> ChunkView:
    """The part of a log in the interface's words."""
    return ChunkView(seq=chunk.seq, at=instant(chunk.at), text=chunk.text)
