"""Arguments and options that several commands have, and the names that a shell completes."""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from service.client import Client
    from service.settings import Settings

COMPLETION_SECONDS = 1.0  # in which a server must answer


def settings_of(context: typer.Context, **flags: object) -> "Settings":
    """The settings of the command: its flags, then the environment. Raises InvalidInput."""
    from service.settings import Settings

    given = {name: tuple(value) if isinstance(value, list) else value for name, value in flags.items() if value}
    return Settings.from_environment(**{**context.obj, **given})


def studies_that_begin(context: typer.Context, incomplete: str) -> list[str]:
    """Names of studies, for completion; empty if the server does not answer."""
    return _names(context, incomplete, lambda client: (study.name for study in client.studies()))


def workers_that_begin(context: typer.Context, incomplete: str) -> list[str]:
    """Ids of workers, for completion."""
    return _names(context, incomplete, lambda client: (worker.id for worker in client.workers()))


def _names(context: typer.Context, incomplete: str, names: "Callable[[Client], Iterator[str]]") -> list[str]:
    from service.client import Client
    from service.domain.errors import ThawlineError
    from service.settings import Settings

    try:
        settings = Settings.from_environment(server=context.find_root().params.get("server"))
        with Client(settings.server, settings.token, seconds=COMPLETION_SECONDS) as client:
            return [name for name in names(client) if name.startswith(incomplete)]
    except ThawlineError:  # a shell completes nothing then
        return []


AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
JsonLines = Annotated[bool, typer.Option("--json", help="Print JSON lines.")]
StudyName = Annotated[
    str, typer.Argument(metavar="STUDY", help="Name or id of the study.", show_default=False, autocompletion=studies_that_begin)
]
WorkerId = Annotated[str, typer.Argument(metavar="WORKER", help="Id of the worker.", show_default=False, autocompletion=workers_that_begin)]
