"""Answers that go out compressed: by a middleware, or compressed once and kept for many clients."""

import gzip
from typing import Any

from starlette.datastructures import Headers
from starlette.middleware.gzip import GZipMiddleware
from starlette.responses import Response
from starlette.types import ASGIApp

LEAST_BYTES = 1024  # below that it is not worth it
LEVEL = 5
LEVEL_ONCE = 6  # for what is kept
ENCODING = "gzip"


class Compression(GZipMiddleware):
    """Compresses what is large enough. Streams of events go out as they are, and so does what is compressed already."""

    def __init__(self, app: ASGIApp) -> None:
        super().__init__(app, minimum_size=LEAST_BYTES, compresslevel=LEVEL)


def packed(body: bytes) -> bytes:
    """The body as `Packed` takes it; equal for equal bodies."""
    return gzip.compress(body, LEVEL_ONCE, mtime=0)


class Packed(Response):
    """An answer from a body that `packed` made, for clients that take it compressed and for those that do not."""

    media_type = "application/json"

    def __init__(self, content: bytes, headers: Headers, **options: Any) -> None:
        taken = ENCODING in headers.get("accept-encoding", "")
        super().__init__(content if taken else gzip.decompress(content), **options)
        if taken:
            self.headers["Content-Encoding"] = ENCODING
            self.headers["Vary"] = "Accept-Encoding"  # otherwise the middleware says so
