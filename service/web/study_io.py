"""Endpoints that export and import studies."""

import hashlib
import tempfile
from collections.abc import AsyncIterator, Iterator
from typing import Annotated, Any, BinaryIO

from fastapi import APIRouter, Depends, Header, Query, Request, Response, status
from starlette.concurrency import run_in_threadpool
from starlette.responses import StreamingResponse

from search_spaces import Fault
from service.domain.errors import InvalidInput, NameTaken, StudyNotFound
from service.domain.records import Study
from service.inspection import inspect_study
from service.operations.idempotency import Idempotency
from service.operations.importing import Quota, import_study
from service.rest_models import StudyView
from service.settings import Settings
from service.store import Store, Transaction, queries
from service.study_io.export import StudyLines, reports_document, study_document, trial_document
from service.study_io.format import CHUNK_STEPS
from service.study_io.import_ import Header as StudyHeader
from service.study_io.import_ import sound
from service.web import API
from service.web.dependencies import FoundStudy, TheDisk, TheSettings, TheStore
from service.web.problems import BUSY, UNSUPPORTED_MEDIA_TYPE, ProblemError
from service.web.requests import KEY, KeyedRequest, media_type
from service.web.studies import whole_study_view

PAGE_TRIALS = 16  # trials read in one transaction, with the reports of their first steps
PART_STEPS = 8 * CHUNK_STEPS  # further steps of a long trial read in one transaction


def pieces(store: Store, study: Study) -> Iterator[bytes]:
    """Yield the lines of the study's file. No transaction is open while a line is sent. Raises StudyNotFound if the study is deleted."""
    lines = StudyLines()
    yield lines.line(study_document(study))
    for first in range(0, study.created, PAGE_TRIALS):
        with store.reading() as tx:
            trials = queries.trials_between(tx, study.id, first, min(first + PAGE_TRIALS, study.created))
            reports = queries.reports_between(tx, trials, 0, CHUNK_STEPS)
        if not trials:
            raise StudyNotFound(study.id)
        for trial in trials:
            yield lines.line(trial_document(trial, reports.get(trial.id, ())))
            for after in range(CHUNK_STEPS, trial.step, PART_STEPS):
                later = store.read(queries.reports_between, [trial], after, after + PART_STEPS).get(trial.id, [])
                for start in range(0, len(later), CHUNK_STEPS):
                    yield lines.line(reports_document(trial, later[start : start + CHUNK_STEPS]))
    yield lines.end()


MEDIA_TYPE = "application/x-ndjson"
MAX_IMPORT = 128 * 1024 * 1024  # bytes
IMPORT_SECONDS = 300.0  # for the body to arrive
LARGER = {f"{API}/studies/import": (MAX_IMPORT, IMPORT_SECONDS)}
MOST_IMPORTS = 2  # concurrent imports
PIECE = 1024 * 1024  # bytes between two writes to the disk
LINES = {MEDIA_TYPE: {"schema": {"type": "string"}}}

router = APIRouter(prefix=API, tags=["studies"])


@router.get(
    "/studies/{study}/export",
    summary="Export a study",
    response_class=StreamingResponse,
    responses={200: {"content": LINES, "description": "JSON lines: the study, its trials, and last a digest of the lines before"}},
)
def export_study(study: FoundStudy, store: TheStore) -> StreamingResponse:
    """The study with all its trials. A running trial is exported in the state that it has when its line is written."""
    headers = {"Content-Disposition": f'attachment; filename="{study.id}.jsonl"'}
    return StreamingResponse(pieces(store, study), media_type=MEDIA_TYPE, headers=headers)


class Imports:
    """The number of imports in progress in this process, and its limit."""

    def __init__(self, most: int = MOST_IMPORTS) -> None:
        self.most = most
        self.under_way = 0


async def received(
    request: Request,
    settings: TheSettings,
    disk: TheDisk,
    key: Annotated[
        str | None, Header(alias="Idempotency-Key", description="a unique text chosen by the client, as for creating a study")
    ] = None,
) -> AsyncIterator[tuple[BinaryIO, KeyedRequest]]:
    """The body in an anonymous temporary file, and the request with its key. Raises ProblemError, InvalidInput, DiskFull."""
    if key is not None and not KEY.match(key):
        raise InvalidInput([Fault(("header", "Idempotency-Key"), "invalid_key", "must have 1 to 200 visible ASCII characters")])
    if media_type(request) not in (MEDIA_TYPE, "application/jsonl"):
        raise ProblemError(UNSUPPORTED_MEDIA_TYPE, f"Send an exported study as {MEDIA_TYPE}, in UTF-8.")
    disk.require_room()
    imports: Imports = request.app.state.imports
    if imports.under_way >= imports.most:
        raise ProblemError(BUSY, "Too many concurrent imports; try again later.")
    imports.under_way += 1
    try:
        folder = settings.home if settings.home.is_dir() else None
        with tempfile.TemporaryFile(dir=folder) as file:
            head = "\0".join((request.method, request.url.path, request.url.query, MEDIA_TYPE, ""))
            yield file, KeyedRequest(key, await _spool(request, file, head.encode()), disk)
    finally:
        imports.under_way -= 1


async def _spool(request: Request, file: BinaryIO, head: bytes) -> str:
    """Write the body to the file. Returns the SHA-256 of `head` and the body, in hexadecimal."""
    digest, piece = hashlib.sha256(head), bytearray()
    async for chunk in request.stream():
        piece += chunk
        if len(piece) >= PIECE:
            await run_in_threadpool(_keep, file, digest, bytes(piece))
            piece.clear()
    await run_in_threadpool(_keep, file, digest, bytes(piece))
    return digest.hexdigest()


def _keep(file: BinaryIO, digest: Any, piece: bytes) -> None:
    digest.update(piece)
    file.write(piece)


Received = Annotated[tuple[BinaryIO, KeyedRequest], Depends(received)]


@router.post(
    "/studies/import",
    status_code=status.HTTP_201_CREATED,
    summary="Import a study",
    response_model=StudyView,
    openapi_extra={"requestBody": {"required": True, "content": LINES}},
)
def receive_study(
    body: Received,
    store: TheStore,
    settings: TheSettings,
    name: Annotated[
        str | None, Query(min_length=1, max_length=128, description="name of the imported study; by default the name in the file")
    ] = None,
    paused: Annotated[
        bool, Query(description="import the study as paused, so that it can be resumed; by default a study that had not ended is stopped")
    ] = False,
) -> Response:
    """Import an exported study. All lines are checked before anything is stored; each fault names its line."""
    file, keyed = body

    def checked_and_imported(key: Idempotency) -> Study:
        header = sound(file, name)
        if paused:
            _refuse_unrunnable(header, settings)
        quota = Quota(settings.max_studies, keyed.disk.require_room)
        try:
            return import_study(store, header, file, paused=paused, idempotency=key, quota=quota)
        except NameTaken as error:
            if not name:  # the name is the one in the file
                error.fault = error.fault.below(("line 1", "spec"))
            raise

    return keyed.create(store, checked_and_imported, _body, location=f"{API}/studies/{{id}}")


def _refuse_unrunnable(header: StudyHeader, settings: Settings) -> None:
    if header.line.confirmation is not None:
        over = "a study whose search is complete cannot be resumed; import it without `paused`"
        raise InvalidInput([Fault(("line 1", "confirmation"), "search_is_over", over)])
    try:
        inspect_study(header.spec, settings.data_roots)
    except InvalidInput as error:
        raise InvalidInput(fault.below(("line 1", "spec")) for fault in error.faults) from None


def _body(tx: Transaction, study: Study) -> str:
    return whole_study_view(tx, study).model_dump_json()
