"""The search service: store, search, worker, server and command line. Imports no torch."""
