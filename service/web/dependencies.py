"""What endpoints depend on: the parts of the application, and the study or trial that a path names."""

from typing import Annotated, cast

from fastapi import Depends, Path, Query, Request

from search_spaces import Fault
from service.disk import Disk
from service.domain.errors import InvalidInput
from service.domain.records import Study, Trial
from service.settings import Settings
from service.single_flight import SingleFlightCache
from service.store import Store, queries
from service.web.streams import Streams

MOST_ANSWER_BYTES = 16 * 1024 * 1024

Answers = SingleFlightCache[tuple[str | int, ...], bytes]
"""Bodies by all they follow from: what is asked, of which study, at which of its events."""


def shared_answers() -> Answers:
    """A place for some answers."""
    return Answers(MOST_ANSWER_BYTES, len)


def store_of(request: Request) -> Store:
    """The app's store."""
    return cast(Store, request.app.state.store)


def settings_of(request: Request) -> Settings:
    """The app's settings."""
    return cast(Settings, request.app.state.settings)


def disk_of(request: Request) -> Disk:
    """Where the app's data lies."""
    return cast(Disk, request.app.state.disk)


def streams_of(request: Request) -> Streams:
    """The open streams of this process."""
    return cast(Streams, request.app.state.streams)


TheStore = Annotated[Store, Depends(store_of)]
TheDisk = Annotated[Disk, Depends(disk_of)]
TheSettings = Annotated[Settings, Depends(settings_of)]


StudyRef = Annotated[str, Path(description="the study's id or its name", examples=["sign-digits"])]


def find_study(study: StudyRef, store: TheStore) -> Study:
    """The study that the path names. Raises StudyNotFound, StudyUnreadable."""
    return store.read(queries.find_study, study)


FoundStudy = Annotated[Study, Depends(find_study)]


def find_trial(
    number: Annotated[int, Path(description="the trial's number in its study", examples=[7])], study: FoundStudy, store: TheStore
) -> Trial:
    """The trial that the path names. Raises TrialNotFound."""
    return store.read(queries.find_trial, study.id, number)


FoundTrial = Annotated[Trial, Depends(find_trial)]
TheStreams = Annotated[Streams, Depends(streams_of)]


def answers_of(request: Request) -> Answers:
    """Large answers that many ask for, compressed."""
    return cast(Answers, request.app.state.answers)


TheAnswers = Annotated[Answers, Depends(answers_of)]


LARGEST_PAGE = 500

Limit = Annotated[int, Query(ge=1, le=LARGEST_PAGE, description="the most entries of the page")]


def unknown_cursor() -> InvalidInput:
    """The error for an `after` that names nothing in the list (any more)."""
    return InvalidInput([Fault(("query", "after"), "unknown_cursor", "this is `next` of an earlier page; begin again without it")])
