"""FastAPI dependencies: parts of the application, and the study or trial that the path names."""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, cast

from fastapi import Depends, Query, Request
from fastapi import Path as PathParameter

from search_spaces import Fault
from service.domain.errors import DiskFull, InvalidInput
from service.domain.records import Study, Trial
from service.settings import Settings
from service.single_flight import SingleFlightCache
from service.store import Store, queries


def free_bytes(path: Path) -> int | None:
    """Free bytes on the file system of the path, which need not exist yet; None if they cannot be determined."""
    for existing in (path, *path.parents):
        try:
            return shutil.disk_usage(existing).free
        except FileNotFoundError:
            continue
        except OSError:
            return None
    return None


@dataclass(frozen=True, slots=True)
class Disk:
    """A path, and the number of bytes that must stay free on its file system; 0 disables the check."""

    path: Path
    floor_bytes: int

    @property
    def is_low(self) -> bool:
        """Whether fewer bytes than the floor are free. False if the free space cannot be determined."""
        free = free_bytes(self.path) if self.floor_bytes else None
        return free is not None and free < self.floor_bytes

    def require_room(self) -> None:
        """Raises DiskFull below the floor."""
        if self.is_low:
            raise DiskFull(
                "The server's disk is nearly full; the remaining space is reserved for results of trials. Free some space and try again."
            )


MOST_ANSWER_BYTES = 16 * 1024 * 1024

Answers = SingleFlightCache[tuple[str | int, ...], bytes]
"""Response bodies by everything that determines them: the endpoint, the study, its last event and the query parameters."""


def shared_answers() -> Answers:
    """An empty cache of response bodies."""
    return Answers(MOST_ANSWER_BYTES, len)


def store_of(request: Request) -> Store:
    """The app's store."""
    return cast(Store, request.app.state.store)


def settings_of(request: Request) -> Settings:
    """The app's settings."""
    return cast(Settings, request.app.state.settings)


def disk_of(request: Request) -> Disk:
    """The app's disk check."""
    return cast(Disk, request.app.state.disk)


TheStore = Annotated[Store, Depends(store_of)]
TheDisk = Annotated[Disk, Depends(disk_of)]
TheSettings = Annotated[Settings, Depends(settings_of)]


StudyRef = Annotated[str, PathParameter(description="the study's id or its name", examples=["sign-digits"])]


def find_study(study: StudyRef, store: TheStore) -> Study:
    """The study whose id or name is in the path. Raises StudyNotFound, StudyUnreadable."""
    return store.read(queries.find_study, study)


FoundStudy = Annotated[Study, Depends(find_study)]


def find_trial(
    number: Annotated[int, PathParameter(description="the trial's number in its study", examples=[7])], study: FoundStudy, store: TheStore
) -> Trial:
    """The trial whose number is in the path. Raises TrialNotFound."""
    return store.read(queries.find_trial, study.id, number)


FoundTrial = Annotated[Trial, Depends(find_trial)]


def answers_of(request: Request) -> Answers:
    """The app's cache of compressed response bodies."""
    return cast(Answers, request.app.state.answers)


TheAnswers = Annotated[Answers, Depends(answers_of)]


LARGEST_PAGE = 500

Limit = Annotated[int, Query(ge=1, le=LARGEST_PAGE, description="maximum number of entries on the page")]


def unknown_cursor() -> InvalidInput:
    """The error for an `after` whose entry does not exist, or no longer exists."""
    return InvalidInput([Fault(("query", "after"), "unknown_cursor", "must be `next` of an earlier page; start again without it")])
