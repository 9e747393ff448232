"""Finds the folder of a model: a local one, or a snapshot of the Hugging Face hub, downloaded if it is not there yet."""

import re
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from trainer.backbones.description import CONFIG, INDEX, TOKENIZER_FILES, UnfitFolder, files_of
from trainer.models import MissingWeights, UnfitModel, WeightsUnavailable

HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}")
COMMIT = re.compile(r"[0-9a-f]{40}")
DOWNLOADED = (CONFIG, *TOKENIZER_FILES, INDEX, "*.safetensors", "README.md", "LICENSE*")
ANSWER_SECONDS = 20.0  # for the hub's first answer, the commit of a revision
MOST_SECONDS = 3600.0  # for a download
REMEDY = (
    "connect this machine to the internet, or set HF_HOME to a cache that contains the model, "
    "or download the model elsewhere and give its folder as model.name"
)


class MissingExtra(MissingWeights):
    """The packages for text models are not installed on this machine."""

    def __init__(self) -> None:
        super().__init__("text models need packages that are not installed on this machine; install thawline[text]")


@dataclass(frozen=True, slots=True)
class FoundModel:
    """The folder of a model; the commit is that of the hub, None for a local folder."""

    folder: Path
    commit: str | None


def is_hub_name(name: str) -> bool:
    """Whether the name is OWNER/NAME and no folder of this machine."""
    return HUB_NAME.fullmatch(name) is not None and not Path(name).exists()


def find(name: str, revision: str | None = None, *, endpoint: str | None = None, seconds: float = MOST_SECONDS) -> FoundModel:
    """The model of that name. A hub name is downloaded into the hub's cache, unless the commit `revision` is there.

    Without an answer of the hub, the snapshot in the cache is used.

    Raises MissingWeights if that fails on this machine or takes longer than `seconds`, WeightsUnavailable if the hub has no such model.
    """
    if not is_hub_name(name):
        return FoundModel(Path(name), None)
    try:
        from huggingface_hub.utils.tqdm import disable_progress_bars
    except ImportError:
        raise MissingExtra from None
    disable_progress_bars()
    if revision is not None and COMMIT.fullmatch(revision) and (cached := _cached(name, revision)) is not None:
        return FoundModel(cached, revision)
    try:
        commit = _within(min(ANSWER_SECONDS, seconds), name, lambda: _commit_of(name, revision, endpoint))
    except MissingWeights:
        if (cached := _cached(name, revision)) is None:
            raise
        return FoundModel(cached, cached.name)  # the newest commit of the revision that was downloaded
    folder = _cached(name, commit) or _within(seconds, name, lambda: _downloaded(name, revision, endpoint))
    return FoundModel(folder, folder.name)


def _cached(name: str, revision: str | None) -> Path | None:
    """The snapshot of that revision if the cache contains all of its files."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        folder = Path(snapshot_download(name, revision=revision, allow_patterns=[*DOWNLOADED], local_files_only=True))
        return folder if all(path.is_file() for path in files_of(folder)) else None
    except (LocalEntryNotFoundError, UnfitFolder, OSError):
        return None


T = TypeVar("T")


def _within(seconds: float, name: str, ask: Callable[[], T]) -> T:
    """The result of `ask`, which calls the hub, or MissingWeights after that time.

    The client's own timeouts do not bound the whole call: it repeats requests, and each byte that a slow server sends restarts them.
    """
    answer = Future[T]()

    def work() -> None:
        try:
            answer.set_result(_translated(name, ask))
        except BaseException as error:
            answer.set_exception(error)

    threading.Thread(target=work, name="hub", daemon=True).start()
    try:
        return answer.result(seconds)
    except TimeoutError:
        raise MissingWeights(f"the model {name} could not be downloaded within {seconds:g} seconds; {REMEDY}") from None


def _commit_of(name: str, revision: str | None, endpoint: str | None) -> str:
    from huggingface_hub import HfApi

    commit = HfApi(endpoint=endpoint).model_info(name, revision=revision, timeout=ANSWER_SECONDS).sha
    if commit is None or COMMIT.fullmatch(commit) is None:
        raise MissingWeights(f"the model {name} could not be downloaded: the hub states no commit; {REMEDY}")
    return commit


def _downloaded(name: str, revision: str | None, endpoint: str | None) -> Path:
    """The folder of the snapshot, whose name is its commit."""
    from huggingface_hub import snapshot_download

    return Path(snapshot_download(name, revision=revision, allow_patterns=[*DOWNLOADED], endpoint=endpoint, max_workers=2))


def _translated(name: str, ask: Callable[[], T]) -> T:
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

    try:
        return ask()
    except GatedRepoError:
        raise MissingWeights(
            f"the model {name} needs an accepted licence; accept it on the hub, and set HF_TOKEN on this machine"
        ) from None
    except RevisionNotFoundError:
        raise WeightsUnavailable(f"the hub's model {name} has no such revision; correct model.revision") from None
    except RepositoryNotFoundError:
        raise WeightsUnavailable(
            f"there is no folder {name}, and the hub has no model of that name, or it is private; correct model.name, or set HF_TOKEN"
        ) from None
    except UnfitModel:
        raise
    except Exception as error:  # network, proxy and disk errors of many types
        raise MissingWeights(f"the model {name} could not be downloaded ({_reason(error)}); {REMEDY}") from None


def _reason(error: BaseException) -> str:
    """The first line of the innermost cause."""
    while (cause := error.__cause__ or error.__context__) is not None:
        error = cause
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]
