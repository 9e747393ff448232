"""Processes that start in milliseconds, since they are forked from one that has imported everything already."""

import multiprocessing
from multiprocessing.context import ForkServerContext

PRELOADED = ["service.operations", "service.store.migrate", "service.worker.supervisor", "service.web.serve", "service.web.app"]


def forkserver() -> ForkServerContext:
    """The context to start them from. The process that they are forked from has one thread and no connection."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    return context
