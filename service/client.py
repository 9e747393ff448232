"""The REST interface from the other side: typed calls, problems as exceptions, events that are followed without loss."""

import json
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Literal, Self, TypeVar
from urllib.parse import quote

import httpx2
from pydantic import BaseModel, ValidationError

from service.domain.errors import ThawlineError
from service.domain.pruning import PruningReport
from service.domain.records import Event
from service.rest_models import (
    ChangesView,
    ExportFormat,
    FaultView,
    ListedStudyView,
    LogView,
    ProblemView,
    QueuedView,
    StudiesPage,
    StudyView,
    TrialsPage,
    TrialView,
    WholeTrialView,
    WorkersView,
    WorkerView,
)
from service.timing import Backoff

SECONDS = 30.0  # for an ordinary call
SILENCE_SECONDS = 45.0  # a stream says something each 15 s; after three times that it is dead
RECONNECT = (0.5, 10.0)  # seconds between two tries to follow
TRIES = 4  # of a call whose connection breaks
RETRY = (0.2, 2.0)  # seconds between two of them
PAGE = 200
PIECE = 1024 * 1024  # bytes of a file that is sent
IMPORT_SECONDS = 3600.0  # for a study to be checked and written
END = "end"  # the kind of the last frame of a stream
UNREACHED = (httpx2.ConnectError, httpx2.ConnectTimeout)
BROKEN = (httpx2.NetworkError, httpx2.RemoteProtocolError, httpx2.ReadTimeout, httpx2.WriteTimeout)  # it may have had its effect


Body = TypeVar("Body", bound=BaseModel)
Page = TypeVar("Page", StudiesPage, TrialsPage)


class Unreachable(ThawlineError):
    """No server answers at the address."""


class Refused(ThawlineError):
    """The server answered with a problem."""

    def __init__(self, status: int, kind: str, detail: str, faults: tuple[FaultView, ...] = ()) -> None:
        super().__init__(detail)
        self.status = status
        self.kind = kind  # such as study-not-found
        self.faults = faults


class UnexpectedAnswer(ThawlineError):
    """The server's answer lacks a field that this version needs, or has a value that it does not have."""


class Client:
    """Calls to one server. Each raises Unreachable, Refused with the server's problem, or UnexpectedAnswer."""

    def __init__(self, server: str, token: str | None = None) -> None:
        headers = {"Accept": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {})
        self.server = server.rstrip("/")
        self._http = httpx2.Client(base_url=f"{self.server}/api/v1/", headers=headers, timeout=SECONDS, trust_env=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def create_study(self, document: object, *, replace: bool = False) -> StudyView:
        """Post a study. NaN and Infinity go out as they stand, so that the server says what is wrong with them.

        `replace` gives it the name of a study that has ended, which is kept under another one.
        """
        asked = {"replace": "true"} if replace else None
        return self._call(StudyView, "POST", "studies", json.dumps(document).encode(), params=asked)

    def studies(self) -> Iterator[ListedStudyView]:
        """All studies, page by page."""
        for page in self._pages(StudiesPage, "studies"):
            yield from page.studies

    def study(self, study: str) -> StudyView:
        """One study, by id or name."""
        return self._call(StudyView, "GET", _study(study))

    def trials(self, study: str) -> Iterator[TrialView]:
        """All trials of a study in the order of their numbers, page by page."""
        for page in self._pages(TrialsPage, f"{_study(study)}/trials"):
            yield from page.trials

    def trial(self, study: str, number: int) -> WholeTrialView:
        """One trial."""
        return self._call(WholeTrialView, "GET", f"{_study(study)}/trials/{number}")

    def log(self, study: str, number: int, attempt: int | None = None, after: int = 0) -> LogView:
        """What follows that chunk in the log of the attempt, by default of the newest one."""
        asked = {"after": after, "limit": PAGE} | ({} if attempt is None else {"attempt": attempt})
        return self._call(LogView, "GET", f"{_study(study)}/trials/{number}/log", params=asked)

    def changes(self, study: str, after: int) -> ChangesView:
        """The study, and the trials that an event after this sequence number touched: a page of them."""
        return self._call(ChangesView, "GET", f"{_study(study)}/changes", params={"after": after})

    def pruning(self, study: str) -> PruningReport:
        """What the study's pruning saved, and what other pruners would have done."""
        return self._call(PruningReport, "GET", f"{_study(study)}/pruning")

    def queue_trials(self, study: str, trials: list[Any]) -> list[TrialView]:
        """Queue a trial for each of the parameters: all of them or none."""
        return self._call(QueuedView, "POST", f"{_study(study)}/trials", json.dumps({"trials": trials}).encode()).trials

    def command(self, study: str, word: Literal["pause", "resume", "stop"]) -> StudyView:
        """Pause, resume or stop a study."""
        return self._call(StudyView, "POST", f"{_study(study)}/{word}")

    def extend_study(self, study: str, trials: int | None = None, hours: float | None = None) -> StudyView:
        """Add so many trials, or hours, to a study's budget."""
        added = {name: value for name, value in (("trials", trials), ("hours", hours)) if value is not None}
        return self._call(StudyView, "PATCH", _study(study), json.dumps({"add": added}).encode())

    def delete_study(self, study: str) -> None:
        """Remove a study with all its trials."""
        self._send("DELETE", _study(study))

    def workers(self) -> list[WorkerView]:
        """All workers that were seen, those that have gone too."""
        return self._call(WorkersView, "GET", "workers").workers

    def drain_worker(self, worker: str) -> WorkerView:
        """Let a worker end its trials and go."""
        return self._call(WorkerView, "POST", f"workers/{quote(worker, safe='')}/drain")

    def best(self, study: str, form: ExportFormat = "yaml") -> str:
        """The recommended configuration, or what goes with it, as the text of a file."""
        with _reached(self.server):
            response = self._http.get(f"{_study(study)}/best", params={"format": form}, headers={"Accept": "*/*"})
        return _sound(response).text

    def export(self, study: str) -> Iterator[bytes]:
        """The study's file, piece by piece. One that breaks off lacks its last line."""
        timeout = httpx2.Timeout(SECONDS, read=IMPORT_SECONDS)
        with _reached(self.server), self._http.stream("GET", f"{_study(study)}/export", timeout=timeout) as response:
            if not response.is_success:
                response.read()
            yield from _sound(response).iter_bytes()

    def import_study(self, file: Path, name: str | None = None, *, paused: bool = False) -> StudyView:
        """The study that the file becomes on the server."""
        headers = {"Idempotency-Key": secrets.token_hex(16), "Content-Type": "application/x-ndjson"}
        asked = {"paused": "true" if paused else "false"} | ({} if name is None else {"name": name})

        def send() -> httpx2.Response:
            with file.open("rb") as opened:
                pieces = iter(partial(opened.read, PIECE), b"")
                return self._http.post("studies/import", content=pieces, headers=headers, params=asked, timeout=IMPORT_SECONDS)

        with _reached(self.server):
            response = _sound(_persistently(send))
        return _parsed(StudyView, response)

    def events(self, study: str, after: int = 0) -> Iterator[Event | None]:
        """Events after that sequence number, each once and in order, until the study has ended. Reconnects when the stream breaks off.

        None stands for a while in which the connection was made anew; a watcher may use it to say so.
        """
        backoff, place = Backoff(*RECONNECT), after
        while True:
            try:
                for event in self._stream(study, place):
                    if event.kind == END:
                        return
                    place = event.seq
                    backoff.reset()
                    yield event
            except (httpx2.TransportError, Unreachable):
                pass
            except Refused as refusal:
                if refusal.status not in (429, 503):
                    raise
            yield None
            time.sleep(backoff.delay())

    def _stream(self, study: str, after: int) -> Iterator[Event]:
        """The events of one connection; one of the kind `end` after the study's last one."""
        timeout = httpx2.Timeout(SECONDS, read=SILENCE_SECONDS)
        with self._http.sse(f"{_study(study)}/events", params={"after": after}, timeout=timeout) as source:
            if source.response.status_code == httpx2.codes.NO_CONTENT:
                yield Event(after, END, {}, 0.0)
                return
            if not source.response.is_success:
                source.response.read()
            _sound(source.response)
            for message in source:
                if message.data:
                    body = json.loads(message.data)
                    yield Event(body["seq"], message.event, body, body.get("at", 0.0))

    def _pages(self, page: type[Page], path: str) -> Iterator[Page]:
        after: str | None = None
        while True:
            found = self._call(page, "GET", path, params={"limit": PAGE} | ({"after": after} if after is not None else {}))
            yield found
            if (after := found.next) is None:
                return

    def _call(
        self, answer: type[Body], method: str, path: str, content: bytes | None = None, params: Mapping[str, Any] | None = None
    ) -> Body:
        return _parsed(answer, self._send(method, path, content, params))

    def _send(self, method: str, path: str, content: bytes | None = None, params: Mapping[str, Any] | None = None) -> httpx2.Response:
        """The server's answer. A call whose connection breaks is made again under the same key, so that it has one effect."""
        headers = {"Idempotency-Key": secrets.token_hex(16)} if method != "GET" else {}
        if content is not None:
            headers["Content-Type"] = "application/json"
        request = partial(self._http.request, method, path, content=content, headers=headers, params=params)
        with _reached(self.server):
            return _sound(_persistently(request))


def _parsed(answer: type[Body], response: httpx2.Response) -> Body:
    """The body of the answer. Fields that a newer server adds are ignored, at every level. Raises UnexpectedAnswer."""
    try:
        return answer.model_validate_json(response.content, extra="ignore")
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(map(str, first["loc"])) or "the body"
        raise UnexpectedAnswer(
            f"The answer of {response.request.url} is not what this version expects ({place}: {first['msg']}); "
            "install the version of Thawline that the server has."
        ) from None


def _persistently(request: Callable[[], httpx2.Response]) -> httpx2.Response:
    """The response, of the first try whose connection holds. An address where nobody listens is not tried again, unless somebody did."""
    backoff = Backoff(*RETRY)
    for number in range(1, TRIES):
        try:
            return request()
        except UNREACHED:
            if number == 1:
                raise
        except BROKEN:
            pass
        time.sleep(backoff.delay())
    return request()


@contextmanager
def _reached(server: str) -> Iterator[None]:
    try:
        yield
    except (httpx2.TransportError, httpx2.InvalidURL) as error:
        raise Unreachable(f"No server answers at {server}: {error or type(error).__name__}") from None


def _study(study: str) -> str:
    return "studies/" + quote(study, safe="")


def _sound(response: httpx2.Response) -> httpx2.Response:
    """The response itself. Raises Refused when it is a problem."""
    if response.is_success:
        return response
    try:
        problem = ProblemView.model_validate_json(response.content)
    except ValidationError:  # not our server
        raise Refused(response.status_code, "unknown", f"The server answered {response.status_code} {response.reason_phrase}.") from None
    raise Refused(response.status_code, problem.type.rpartition(":")[2], problem.detail, problem.errors or ())
