"""Plotly's script from the installed package, and the page in which alone it runs: its content policy allows the styles it needs."""

import gzip
import hashlib
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated

from fastapi import APIRouter, Header, Response

from service.search import figures
from service.web.dependencies import TheSettings
from service.web.page import html_of

FRAME_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src data: blob:; font-src data:; "
        "connect-src 'none'; object-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
    ),
    "X-Frame-Options": "SAMEORIGIN",
    "Cache-Control": "no-cache",
}
FOR_GOOD = "private, max-age=31536000, immutable"

router = APIRouter(include_in_schema=False)


@dataclass(frozen=True, slots=True)
class Script:
    """The script, compressed once."""

    version: str
    zipped: bytes
    etag: str


@lru_cache(maxsize=1)
def script() -> Script:
    """The installed script, kept from the first time on. Raises PlotlyMissing."""
    zipped = gzip.compress(figures.script_file().read_bytes(), 6, mtime=0)
    return Script(figures.script_version(), zipped, f'"{hashlib.sha256(zipped).hexdigest()[:32]}"')


@router.get("/plotly.js")
def plotly_script(
    v: str = "",
    if_none_match: Annotated[str | None, Header()] = None,
    accept_encoding: Annotated[str, Header()] = "",
) -> Response:
    """The script; with its version in the address it may be kept for good."""
    kept = script()
    headers = {"ETag": kept.etag, "Vary": "Accept-Encoding", "Cache-Control": FOR_GOOD if v == kept.version else "no-cache"}
    if if_none_match == kept.etag:
        return Response(status_code=304, headers=headers)
    if "gzip" in accept_encoding:
        return Response(kept.zipped, headers={**headers, "Content-Encoding": "gzip"}, media_type="text/javascript")
    return Response(gzip.decompress(kept.zipped), headers=headers, media_type="text/javascript")


@router.get("/figure")
def figure_page(settings: TheSettings) -> Response:
    """The frame that draws what its parent sends. Raises PlotlyMissing."""
    page = html_of("figure", settings.root_path).replace("{version}", figures.script_version())
    return Response(page, headers=FRAME_HEADERS, media_type="text/html; charset=utf-8")
