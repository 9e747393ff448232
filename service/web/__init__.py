"""The server: the REST interface, the live stream and the pages. The only room that knows FastAPI."""

API = "/api/v1"
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})  # they change nothing
