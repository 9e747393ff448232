"""A client of the REST interface: typed calls, problems as exceptions, and an event stream that reconnects without loss."""

import json
import re
import secrets
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace as replace_fields
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple, Self, TypeVar
from urllib.parse import quote

import httpx2
from pydantic import BaseModel, ValidationError

from search_spaces import Fault
from service.domain.errors import ThawlineError
from service.domain.pruning import PruningReport
from service.domain.records import Event
from service.rest_models import (
    ChangesView,
    ClaimView,
    ConfirmationView,
    ExportFormat,
    HeldView,
    ListedStudyView,
    LogView,
    NothingView,
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

SECONDS = 30.0  # timeout of an ordinary call
SILENCE_SECONDS = 45.0  # read timeout of a stream: three times the server's keep-alive interval
RECONNECT = (0.5, 10.0)  # minimum and maximum seconds between attempts to reconnect a stream
TRIES = 4  # of a call whose connection breaks
RETRY = (0.2, 2.0)  # minimum and maximum seconds between two tries
PAGE = 200
PIECE = 1024 * 1024  # bytes per read of an uploaded file
IMPORT_SECONDS = 3600.0  # timeout of an import, which the server checks and stores before it responds
END = "end"  # the kind of a stream's last frame
UNREACHED = (httpx2.ConnectError, httpx2.ConnectTimeout)
BROKEN = (httpx2.NetworkError, httpx2.RemoteProtocolError, httpx2.ReadTimeout, httpx2.WriteTimeout)  # the call may have taken effect


ClaimVerb = Literal["report", "finish", "fail", "release"]
Body = TypeVar("Body", bound=BaseModel)
Page = TypeVar("Page", StudiesPage, TrialsPage)


class ClaimKey(NamedTuple):
    """The id of a claim, and its token."""

    claim: str
    token: str


class Unreachable(ThawlineError):
    """No server answers at the address."""


class Refused(ThawlineError):
    """The server answered with a problem."""

    def __init__(self, status: int, kind: str, detail: str, faults: tuple[Fault, ...] = ()) -> None:
        super().__init__("\n".join((detail, *(f"{fault.pointer}  {fault.message}" for fault in faults))))
        self.status = status
        self.kind = kind  # the last part of the problem's `type`, such as study-not-found
        self.detail = detail
        self.faults = faults

    @property
    def temporary(self) -> bool:
        """Whether the same call may succeed later: there were too many requests, or the database is unavailable."""
        return self.status in (429, 503)


class UnexpectedAnswer(ThawlineError):
    """The server's response lacks a field that this version requires, or has a value that it does not know."""


class PlotlyFigure(BaseModel):
    """A figure in Plotly's format."""

    data: list[dict[str, Any]]
    layout: dict[str, Any]


def claimant(process: int) -> str:
    """The name of a process or a process group as a claimant: with that of the host."""
    with suppress(OSError):
        return re.sub(r"[^A-Za-z0-9._-]", "-", f"{socket.gethostname()[:80]}-{process}").lstrip("._-") or "claimant"
    return f"process-{process}"


def without_user(address: str) -> str:
    """The address for messages and links: without the user and password of a proxy."""
    return re.sub(r"(?<=://)[^/]*@", "", address)


class Client:
    """Calls to one server. Each method raises Unreachable, Refused (with the server's problem) or UnexpectedAnswer."""

    def __init__(self, server: str, token: str | None = None, *, seconds: float = SECONDS) -> None:
        headers = {"Accept": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {})
        address = server.rstrip("/")
        self.server = without_user(address)
        self._http = httpx2.Client(base_url=f"{address}/api/v1/", headers=headers, timeout=seconds, trust_env=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def create_study(self, document: object, *, replace: bool = False) -> StudyView:
        """Create a study. NaN and Infinity are sent unchanged, so that the server reports them as faults.

        With `replace`, an ended study of the same name is renamed first. A server does not repeat paths in its faults; those of the
        document are added here.
        """
        query = {"replace": "true"} if replace else None
        try:
            return self._call(StudyView, "POST", "studies", json.dumps(document).encode(), params=query)
        except Refused as refusal:
            faults = tuple(replace_fields(fault, message=_with_path(fault, document)) for fault in refusal.faults)
            raise Refused(refusal.status, refusal.kind, refusal.detail, faults) from None

    def studies(self) -> Iterator[ListedStudyView]:
        """All studies, newest first, read page by page."""
        for page in self._pages(StudiesPage, "studies"):
            yield from page.studies

    def study(self, study: str) -> StudyView:
        """One study, by id or name."""
        return self._call(StudyView, "GET", _study(study))

    def trials(self, study: str) -> Iterator[TrialView]:
        """All trials of a study in the order of their numbers, read page by page."""
        for page in self._pages(TrialsPage, f"{_study(study)}/trials"):
            yield from page.trials

    def trial(self, study: str, number: int) -> WholeTrialView:
        """One trial."""
        return self._call(WholeTrialView, "GET", f"{_study(study)}/trials/{number}")

    def log(self, study: str, number: int, attempt: int | None = None, after: int = 0) -> LogView:
        """The part of an attempt's log after chunk `after`. By default of the newest attempt."""
        query = {"after": after, "limit": PAGE} | ({} if attempt is None else {"attempt": attempt})
        return self._call(LogView, "GET", f"{_study(study)}/trials/{number}/log", params=query)

    def changes(self, study: str, after: int) -> ChangesView:
        """The study, and a page of its trials that changed after event `after`."""
        return self._call(ChangesView, "GET", f"{_study(study)}/changes", params={"after": after})

    def confirmation(self, study: str) -> ConfirmationView:
        """The progress and the results of the study's confirmation."""
        return self._call(ConfirmationView, "GET", f"{_study(study)}/confirmation")

    def pruning(self, study: str) -> PruningReport:
        """The study's pruning report: saved epochs, and the decisions of other pruners."""
        return self._call(PruningReport, "GET", f"{_study(study)}/pruning")

    def queue_trials(self, study: str, trials: list[Any]) -> list[TrialView]:
        """Queue a trial for each set of parameters, all or none of them."""
        return self._call(QueuedView, "POST", f"{_study(study)}/trials", json.dumps({"trials": trials}).encode()).trials

    def command(self, study: str, action: Literal["pause", "resume", "stop"]) -> StudyView:
        """Pause, resume or stop a study."""
        return self._call(StudyView, "POST", f"{_study(study)}/{action}")

    def extend_study(self, study: str, trials: int | None = None, hours: float | None = None) -> StudyView:
        """Add trials, hours or both to a study's budget."""
        added = {name: value for name, value in (("trials", trials), ("hours", hours)) if value is not None}
        return self._call(StudyView, "PATCH", _study(study), json.dumps({"add": added}).encode())

    def rerank_study(self, study: str, metric: str) -> StudyView:
        """Rank the trials of a study that has ended by another metric."""
        return self._call(StudyView, "POST", f"{_study(study)}/objective", json.dumps({"metric": metric}).encode())

    def delete_study(self, study: str) -> None:
        """Delete a study with all its trials."""
        self._send("DELETE", _study(study))

    def claim(self, study: str, worker: str) -> ClaimView | NothingView:
        """Claim a trial of the study for a claimant of that name."""
        response = self._send("POST", f"{_study(study)}/claims", json.dumps({"worker": worker}).encode())
        return _parsed(ClaimView, response) if response.status_code == httpx2.codes.CREATED else _parsed(NothingView, response)

    def renew(self, claim: ClaimKey, seconds: float = SECONDS) -> HeldView:
        """Renew the lease of a claim, in one try that ends after `seconds`."""
        with _reached(self.server):
            response = self._http.post(f"{_claim(claim)}/heartbeat", headers={"Claim-Token": claim.token}, timeout=seconds)
        return _parsed(HeldView, _checked(response))

    def about_claim(self, answer: type[Body], verb: ClaimVerb, claim: ClaimKey, body: Mapping[str, Any]) -> Body:
        """Report on a claimed trial or end it. Each call may be repeated, so it has no Idempotency-Key."""
        headers = {"Claim-Token": claim.token, "Content-Type": "application/json"}
        request = partial(self._http.post, f"{_claim(claim)}/{verb}", content=json.dumps(body).encode(), headers=headers)
        with _reached(self.server):
            return _parsed(answer, _checked(_retry_while_broken(request)))

    def workers(self) -> list[WorkerView]:
        """All workers, including those that are gone."""
        return self._call(WorkersView, "GET", "workers").workers

    def drain_worker(self, worker: str) -> WorkerView:
        """Drain a worker: it completes its trials, claims no more, and exits."""
        return self._call(WorkerView, "POST", f"workers/{quote(worker, safe='')}/drain")

    def best(self, study: str, form: ExportFormat = "yaml") -> str:
        """The exported configuration in the given format, as the text of a file."""
        with _reached(self.server):
            response = self._http.get(f"{_study(study)}/best", params={"format": form}, headers={"Accept": "*/*"})
        return _checked(response).text

    def figure(self, study: str, name: str, params: Sequence[str] = ()) -> PlotlyFigure:
        """A figure. Without `params`, the server chooses the parameters that it shows."""
        return self._call(PlotlyFigure, "GET", f"{_study(study)}/figures/{quote(name, safe='')}", params={"param": params})

    def export(self, study: str) -> Iterator[bytes]:
        """Yield the study's file in pieces. An incomplete file lacks its last line, the digest."""
        timeout = httpx2.Timeout(SECONDS, read=IMPORT_SECONDS)
        with _reached(self.server), self._http.stream("GET", f"{_study(study)}/export", timeout=timeout) as response:
            if not response.is_success:
                response.read()
            yield from _checked(response).iter_bytes()

    def import_study(self, file: Path, name: str | None = None, *, paused: bool = False) -> StudyView:
        """Import a study from a file. Returns the created study."""
        headers = {"Idempotency-Key": secrets.token_hex(16), "Content-Type": "application/x-ndjson"}
        query = {"paused": "true" if paused else "false"} | ({} if name is None else {"name": name})

        def send() -> httpx2.Response:
            with file.open("rb") as opened:
                pieces = iter(partial(opened.read, PIECE), b"")
                return self._http.post("studies/import", content=pieces, headers=headers, params=query, timeout=IMPORT_SECONDS)

        with _reached(self.server):
            response = _checked(_retry_while_broken(send))
        return _parsed(StudyView, response)

    def events(self, study: str, after: int = 0) -> Iterator[Event | None]:
        """Yield the events after sequence number `after`, each once and in order, until the study has ended.

        Reconnects after a disconnection, and yields None before each attempt, so that the caller can report the interruption.
        """
        backoff, cursor = Backoff(*RECONNECT), after
        for _ in backoff.tries():
            try:
                for event in self._stream(study, cursor):
                    if event.kind == END:
                        return
                    cursor = event.seq
                    backoff.reset()
                    yield event
            except (httpx2.TransportError, Unreachable):
                pass
            except Refused as refusal:
                if not refusal.temporary:
                    raise
            yield None

    def _stream(self, study: str, after: int) -> Iterator[Event]:
        """Yield the events of one connection, and an event of kind `end` after the study's last event."""
        timeout = httpx2.Timeout(SECONDS, read=SILENCE_SECONDS)
        with self._http.sse(f"{_study(study)}/events", params={"after": after}, timeout=timeout) as source:
            if source.response.status_code == httpx2.codes.NO_CONTENT:
                yield Event(after, END, {}, 0.0)
                return
            if not source.response.is_success:
                source.response.read()
            _checked(source.response)
            for message in source:
                if message.data:
                    yield _event(message.event, message.data)

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
        """Send a request and return the successful response.

        A call whose connection breaks is repeated with the same Idempotency-Key, so that it takes effect once.
        """
        headers = {"Idempotency-Key": secrets.token_hex(16)} if method != "GET" else {}
        if content is not None:
            headers["Content-Type"] = "application/json"
        request = partial(self._http.request, method, path, content=content, headers=headers, params=params)
        with _reached(self.server):
            return _checked(_retry_while_broken(request))


def _parsed(answer: type[Body], response: httpx2.Response) -> Body:
    """The parsed body. Fields that a newer server adds are ignored at every level. Raises UnexpectedAnswer."""
    try:
        return answer.model_validate_json(response.content, extra="ignore")
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(map(str, first["loc"])) or "the body"
        url = response.request.url.copy_with(userinfo=b"")
        raise UnexpectedAnswer(
            f"The response of {url} does not match this version of Thawline ({place}: {first['msg']}); install the server's version."
        ) from None


def _event(kind: str, data: str) -> Event:
    """The event in a frame of the stream. Raises UnexpectedAnswer."""
    try:
        body = json.loads(data)
        return Event(body["seq"], kind, body, body.get("at", 0.0))
    except (ValueError, KeyError, TypeError):
        raise UnexpectedAnswer(f"An event ({kind}) does not match this version of Thawline; install the server's version.") from None


def _retry_while_broken(request: Callable[[], httpx2.Response]) -> httpx2.Response:
    """Call `request`, and repeat it while its connection breaks.

    A refused connection is an error on the first try. On a later try it is repeated: the server was reachable and may be restarting.
    """
    tries = Backoff(*RETRY).tries()
    while (number := next(tries)) < TRIES:
        try:
            return request()
        except UNREACHED:
            if number == 1:
                raise
        except BROKEN:
            pass
    return request()


@contextmanager
def _reached(server: str) -> Iterator[None]:
    try:
        yield
    except (httpx2.TransportError, httpx2.InvalidURL) as error:
        raise Unreachable(f"No server answers at {server}: {error or type(error).__name__}") from None


def _claim(key: ClaimKey) -> str:
    return "claims/" + quote(key.claim, safe="")


def _study(study: str) -> str:
    return "studies/" + quote(study, safe="")


PATH_FIELDS = (("data", "path"), ("data", "root"), ("data", "validation"), ("data", "test"), ("model", "weights"))
PATHS = {f"#/{section}/{name}": (section, name) for section, name in PATH_FIELDS}


def _with_path(fault: Fault, document: object) -> str:
    """The fault's message with the absolute path that the field holds."""
    section, name = PATHS.get(fault.pointer, ("", ""))
    fields = document.get(section) if isinstance(document, dict) else None
    value = fields.get(name) if isinstance(fields, dict) else None
    if not isinstance(value, str) or not Path(value).is_absolute() or value in fault.message:
        return fault.message
    return f"{fault.message} ({section}.{name} is {value})"


def _checked(response: httpx2.Response) -> httpx2.Response:
    """Returns the response. Raises Refused if its status is not 2xx."""
    if response.is_success:
        return response
    try:
        problem = ProblemView.model_validate_json(response.content)
    except ValidationError:  # not a problem: the response of a proxy or another server
        raise Refused(response.status_code, "unknown", f"The server responded {response.status_code} {response.reason_phrase}.") from None
    faults = tuple(Fault.at(one.pointer, one.code, one.detail) for one in problem.errors or ())
    raise Refused(response.status_code, problem.type.rpartition(":")[2], problem.detail, faults)
