"""Domain errors. One table in the web layer maps them to HTTP status codes."""

from collections.abc import Iterable

from search_spaces import Fault


class ThawlineError(Exception):
    """Base of all domain errors. The message is shown to the user."""

    faults: tuple[Fault, ...] = ()  # of the document that was refused, if there is one


LONGEST_QUOTE = 128  # characters; also the longest name of a study


def quoted(text: str) -> str:
    """The text in quotation marks, at most `LONGEST_QUOTE` characters of it. Characters that cannot be printed become `?`."""
    shown = text if len(text) <= LONGEST_QUOTE else f"{text[: LONGEST_QUOTE - 1]}…"
    return f'"{"".join(character if character.isprintable() else "?" for character in shown)}"'


class StudyNotFound(ThawlineError):
    """No study has this id or name."""

    def __init__(self, study: str) -> None:
        super().__init__(f"There is no study {quoted(study)}.")
        self.study = study


class StudyDeleted(ThawlineError):
    """A repeated request (same Idempotency-Key) refers to a study that was deleted after the first request."""

    def __init__(self, study: str) -> None:
        super().__init__("The study of the first request with this Idempotency-Key has been deleted; send a new key.")
        self.study = study


class StudyUnreadable(ThawlineError):
    """The study's row is damaged, or was written by a version that this one cannot read."""

    def __init__(self, study: str) -> None:
        super().__init__("This version cannot read the stored study; it can only be deleted.")
        self.study = study


class TrialNotFound(ThawlineError):
    def __init__(self, number: int) -> None:
        super().__init__(f"The study has no trial {number}.")


class WorkerNotFound(ThawlineError):
    def __init__(self, worker: str) -> None:
        super().__init__(f"There is no worker {quoted(worker)}.")
        self.worker = worker


class NameTaken(ThawlineError):
    """Another study has the name. `fault` has the place of the name in the request, and the remedy."""

    def __init__(
        self,
        name: str,
        remedy: str = "another study has this name; choose another name, or delete that study; with replace: true, a new study takes the "
        "name of a study that has ended, which is kept under a new name",
    ) -> None:
        super().__init__(f"The name {quoted(name)} is taken: {remedy}.")
        self.name = name
        self.fault = Fault(("name",), "name_taken", remedy)


class StudyClosed(ThawlineError):
    """The study's state does not allow the request."""


class TrialClosed(ThawlineError):
    """The trial has ended already."""


class BudgetSpent(ThawlineError):
    """The study's budget allows no further trial."""

    def __init__(self, message: str = "The study's budget is spent; no trial can be added.") -> None:
        super().__init__(message)


class QuotaExceeded(ThawlineError):
    """The server holds the maximum number of studies."""

    def __init__(self, most: int) -> None:
        super().__init__(f"This server holds at most {most} studies; delete some, or raise THAW_MAX_STUDIES.")


class NoResult(ThawlineError):
    """No trial is complete with a finite value, so there is no best one."""

    def __init__(self, message: str = "No trial of this study is complete yet, so there is no best configuration.") -> None:
        super().__init__(message)


class NoScript(ThawlineError):
    """The study's task has no training script."""

    def __init__(self, task: str) -> None:
        super().__init__(f"There is no training script for the task {task}; export as yaml and train with `thaw train FILE`.")


class NoModel(ThawlineError):
    """The study's task trains no model that Thawline knows."""

    def __init__(self, task: str) -> None:
        super().__init__(f"The task {task} has no model that Thawline knows, so this does not apply; export as yaml or json.")


class UnknownFigure(ThawlineError):
    """There is no figure with that name."""

    def __init__(self, name: str, known: Iterable[str]) -> None:
        super().__init__(f"There is no figure {quoted(name)}; choose one of {', '.join(known)}.")


class PlotlyMissing(ThawlineError):
    """The package plotly, which contains the script of the figures, is not installed or is incomplete."""

    def __init__(self) -> None:
        super().__init__("The package plotly is not installed, or lacks its script; run `pip install --force-reinstall plotly`.")


class LeaseLost(ThawlineError):
    """The trial has a newer attempt, or has ended. The caller must stop working on the trial at once."""

    def __init__(self, number: int, attempt: int, message: str | None = None) -> None:
        super().__init__(message or f"Attempt {attempt} no longer holds the lease of trial {number}.")


class TrialCancelled(LeaseLost):
    """The trial of a claim was cancelled, or its study was stopped."""


class ClaimNotFound(ThawlineError):
    """No claim over REST has this id."""

    def __init__(self) -> None:
        super().__init__("There is no such claim; its study may have been deleted. Claim another trial.")


class WrongClaimToken(ThawlineError):
    """The token in the request's header is not that of the claim."""

    def __init__(self) -> None:
        super().__init__("The header Claim-Token does not have the token of this claim; send the token that came with the claim.")


class StepNotNew(ThawlineError):
    """A claim reported a step that is not above the last one, with other values than before."""

    def __init__(self, step: int, last: int) -> None:
        super().__init__(
            f"Step {step} cannot be reported: the last step was {last}, and steps must increase; leave out a step that was reported."
        )


class IdempotencyConflict(ThawlineError):
    """The key was used before with another request."""

    def __init__(self) -> None:
        super().__init__("This Idempotency-Key was used for another request; send a new key.")


class SchemaTooNew(ThawlineError):
    """The database schema is of a newer version of Thawline."""


class SchemaTooOld(ThawlineError):
    """The database schema is of an older version of Thawline and has not been upgraded."""


class NotADatabase(ThawlineError):
    """The URL does not lead to a Thawline database."""

    def __init__(self, why: str = "This is not a Thawline database.") -> None:
        super().__init__(why)


class ReadOnly(ThawlineError):
    """The server is read-only."""

    def __init__(self) -> None:
        super().__init__("This dashboard is read-only; to change the database, run `thaw serve` on it.")


class StoreUnavailable(ThawlineError):
    """The database does not respond. The request can be repeated."""


class ImportGivenUp(StoreUnavailable):
    """An import made no progress for a minute, and its study was discarded. No part of it is visible."""

    def __init__(self) -> None:
        super().__init__("The import made no progress for a minute and was discarded; send the file again.")


class DiskFull(StoreUnavailable):
    """The disk is full, or has only the space reserved for results. The request can be repeated when there is more space."""


class InvalidInput(ThawlineError):
    """A document has faults; no part of it was accepted."""

    def __init__(self, faults: Iterable[Fault]) -> None:
        self.faults = tuple(faults)
        super().__init__("; ".join(f"{fault.pointer}: {fault.message}" for fault in self.faults))
