"""The server: REST interface, event streams and HTML pages. The only package that imports FastAPI."""

API = "/api/v1"
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})  # requests with these methods change nothing
