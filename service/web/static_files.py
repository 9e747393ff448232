"""Styles, modules and pictures, compressed once: a page asks for fifty of them."""

import hashlib
import mimetypes
from dataclasses import dataclass
from pathlib import Path

from starlette.datastructures import Headers
from starlette.responses import FileResponse, Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

from service.web.compression import Packed, packed

STATIC = Path(__file__).parent / "static"
ALWAYS_ASK = {"Cache-Control": "no-cache"}  # so that an upgrade is seen at once
Signature = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Kept:
    """A file as it was when it was last changed."""

    signature: Signature
    zipped: bytes
    etag: str
    media_type: str


class Static(StaticFiles):
    """The files of a folder, asked for anew each time and sent only when they changed; those that were there at the start from memory."""

    def __init__(self, folder: Path) -> None:
        super().__init__(directory=folder)
        self._files = {file.relative_to(folder).as_posix(): file for file in sorted(folder.rglob("*")) if file.is_file()}
        self._kept: dict[str, Kept] = {}

    async def get_response(self, path: str, scope: Scope) -> Response:
        """From memory where the file is one of them, else as Starlette has it."""
        if scope["method"] != "GET" or path not in self._files:
            return await super().get_response(path, scope)
        if (kept := self._current(path)) is None:
            return await super().get_response(path, scope)
        headers = Headers(scope=scope)
        told = {"ETag": kept.etag, **ALWAYS_ASK}
        if headers.get("if-none-match") == kept.etag:
            return Response(status_code=304, headers=told)
        answer = Packed(kept.zipped, headers, media_type=kept.media_type)
        answer.headers.update(told)
        return answer

    def file_response(self, *args: object, **kwargs: object) -> FileResponse:
        answer = super().file_response(*args, **kwargs)  # type: ignore[arg-type]
        answer.headers.update(ALWAYS_ASK)
        return answer  # type: ignore[return-value]

    def _current(self, path: str) -> Kept | None:
        """The file as it is now; read again only when it was changed, as whoever works on the pages does. None once it is gone."""
        file, kept = self._files[path], self._kept.get(path)
        try:
            status = file.stat()
        except OSError:
            return None
        signature = status.st_mtime_ns, status.st_size
        if kept is None or kept.signature != signature:
            kept = self._kept[path] = _read(file, signature)
        return kept


def module_of(task: str) -> str | None:
    """The path of the page module that draws the task's reports; None where there is none."""
    return f"/static/tasks/{task}.js" if (STATIC / "tasks" / f"{task}.js").is_file() else None


def _read(file: Path, signature: Signature) -> Kept:
    body = file.read_bytes()
    kind = mimetypes.guess_type(file.name)[0] or "application/octet-stream"
    return Kept(signature, packed(body), f'"{hashlib.sha256(body).hexdigest()[:32]}"', kind)
