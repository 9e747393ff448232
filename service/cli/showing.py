"""`thaw dashboard`: the pages on a database that someone else writes to, or nobody any more."""

import sys

from service import journal
from service.cli.failures import Failure
from service.domain.errors import NotADatabase, SchemaTooNew, SchemaTooOld, StoreUnavailable
from service.settings import Settings
from service.store import without_password


def run_dashboard(settings: Settings, host: str, port: int) -> None:
    """Show the pages until SIGTERM or SIGINT. Raises Failure that names the database, TokenRequired, AddressUnavailable, InvalidInput."""
    from service.web.serve import show

    journal.keep(settings, "dashboard")
    database = without_password(settings.database_url)

    def ready(address: str) -> None:
        sys.stdout.write(f"Thawline shows {database} at {address} (Ctrl-C ends it)\n")
        sys.stdout.flush()

    try:
        show(settings, host, port, ready=ready)
    except (NotADatabase, SchemaTooOld, SchemaTooNew, StoreUnavailable) as error:
        raise Failure(f"{database}: {error}") from error
