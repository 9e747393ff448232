"""What can go wrong, in the domain's words. One table in the web layer turns them into HTTP."""

from collections.abc import Iterable

from search_spaces import Fault


class ThawlineError(Exception):
    """The base of all of them; its text is meant for the user."""


class StudyNotFound(ThawlineError):
    def __init__(self, study: str) -> None:
        super().__init__("There is no such study.")
        self.study = study


class StudyDeleted(ThawlineError):
    """A repeated request, by its Idempotency-Key, is about a study that was deleted after the first one."""

    def __init__(self, study: str) -> None:
        super().__init__("The study that the first request with this Idempotency-Key was about has been deleted; send a new key.")
        self.study = study


class StudyUnreadable(ThawlineError):
    """The study's row was damaged, or was written by a version that this one does not understand."""

    def __init__(self, study: str) -> None:
        super().__init__("This version cannot read the study as it was stored; all that can be done with it is to delete it.")
        self.study = study


class TrialNotFound(ThawlineError):
    def __init__(self, number: int) -> None:
        super().__init__(f"The study has no trial {number}.")


class WorkerNotFound(ThawlineError):
    def __init__(self, worker: str) -> None:
        super().__init__("There is no such worker.")
        self.worker = worker


class NameTaken(ThawlineError):
    """Another study has the name."""

    def __init__(
        self,
        message: str = "Another study has this name; choose another, or delete that one. "
        "A study created with replace: true takes the name of one that has ended, which is kept under a new name.",
    ) -> None:
        super().__init__(message)


class StudyClosed(ThawlineError):
    """The study's state forbids what was asked."""


class TrialClosed(ThawlineError):
    """The trial has ended already."""


class BudgetSpent(ThawlineError):
    """The study's budget has no room for another trial."""

    def __init__(self, message: str = "The study's budget is spent; no trial can be added.") -> None:
        super().__init__(message)


class QuotaExceeded(ThawlineError):
    """The server has as many studies as it may hold."""

    def __init__(self, most: int) -> None:
        super().__init__(f"This server holds at most {most} studies; delete some, or raise THAW_MAX_STUDIES.")


class NoResult(ThawlineError):
    """No trial is complete with a finite value, so there is no best one."""

    def __init__(self) -> None:
        super().__init__("No trial of this study is complete yet, so there is no best configuration.")


class NoScript(ThawlineError):
    """The study's task makes no training script."""

    def __init__(self, task: str) -> None:
        super().__init__(f"There is no training script for the task {task}; export as yaml and train with `thaw train FILE`.")


class UnknownFigure(ThawlineError):
    """There is no figure of that name."""

    def __init__(self, known: Iterable[str]) -> None:
        super().__init__(f"There is no such figure; choose one of {', '.join(known)}.")


class PlotlyMissing(ThawlineError):
    """The package that brings Plotly's script is not installed, or not whole."""

    def __init__(self) -> None:
        super().__init__("The package plotly is not installed, or lacks its script; `pip install --force-reinstall plotly` brings it.")


class LeaseLost(ThawlineError):
    """The trial belongs to another attempt, or has ended. Whoever gets this stops at once."""

    def __init__(self, number: int, attempt: int) -> None:
        super().__init__(f"Attempt {attempt} does not hold trial {number} any more.")


class IdempotencyConflict(ThawlineError):
    """The key was used before, for another request."""

    def __init__(self) -> None:
        super().__init__("This Idempotency-Key was used for another request; take a new one.")


class SchemaTooNew(ThawlineError):
    """The database was made by a newer Thawline."""


class SchemaTooOld(ThawlineError):
    """The database was made by an older Thawline, and nobody has brought it up to date."""


class NotADatabase(ThawlineError):
    """What the URL names is not a database of Thawline's."""

    def __init__(self, why: str = "This is not a Thawline database.") -> None:
        super().__init__(why)


class ReadOnly(ThawlineError):
    """Nothing can be changed here."""

    def __init__(self) -> None:
        super().__init__("This dashboard only shows the database; to change something, run `thaw serve` on it.")


class StoreUnavailable(ThawlineError):
    """The database does not answer; try again."""


class ImportGivenUp(StoreUnavailable):
    """An import made no progress for so long that its study was given up; nothing of it is visible."""

    def __init__(self) -> None:
        super().__init__("The import made no progress for a minute and was given up; send the file again.")


class DiskFull(StoreUnavailable):
    """The disk has no room, or only what is kept for results; it can be tried again when there is more."""


class InvalidInput(ThawlineError):
    """A document has faults; none of it was accepted."""

    def __init__(self, faults: Iterable[Fault]) -> None:
        self.faults = tuple(faults)
        super().__init__("; ".join(f"{fault.pointer}: {fault.message}" for fault in self.faults))
