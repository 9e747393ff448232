"""`thaw verify`: whether an exported configuration reaches again what it states, with a seed that its study never had."""

import secrets
from pathlib import Path

from service.cli.console import console
from service.cli.exported import read, run
from service.cli.failures import Failure, FaultyFile
from service.cli.training import test_sentence
from service.domain.export import Confirmed, Exported
from service.domain.verdict import Estimate
from service.export.card import is_within
from service.settings import Settings
from trainer.protocol import Finished

STUDIES_SEEDS = 2**31  # a study draws its own below it
SEEDS = 2**32
CHANCE = "Of sound configurations 1 in 20 falls outside by chance; another seed tells chance from fault:"


def verify_exported(settings: Settings, file: Path, seed: int | None) -> None:
    """Train once more with a fresh seed, and compare with the interval that the file states for one run.

    Raises FaultyFile for a file that states none, and for a seed that the study had; Failure when the score lies outside.
    """
    exported = read(file)
    _refuse_without_interval(file, exported)
    chosen = fresh_seed() if seed is None else seed
    if chosen in seeds_of(exported):
        raise Failure(f"The study itself trained with the seed {chosen}, so it proves nothing; give another one, or none.")
    console().print(f"Training trial {exported.origin.trial}'s configuration with the seed {chosen}, which its study never had")
    finished, _ = run(settings, exported, seed=chosen)
    console().print(conclusion(file, exported, finished))


def conclusion(file: Path, exported: Exported, finished: Finished) -> str:
    """That the run confirms what the file states. Raises Failure when it does not, with another seed to try."""
    sentence = test_sentence(exported, finished)
    if not is_within(exported, finished):
        raise Failure(f"{sentence}.\n{CHANCE}\n  thaw verify {file} --seed {fresh_seed()}")
    return f"{sentence}: it holds what it states."


def _refuse_without_interval(file: Path, exported: Exported) -> Estimate:
    stated = exported.confirmed.single_run if exported.confirmed is not None else None
    if stated is None:
        remedy = "confirm the study (confirm: {top: 3, seeds: 5}, and data.test or data.split: given), and export again with `thaw best`"
        raise FaultyFile(
            file, (("#/confirmed", f"the file states no interval that a run could miss. {exported.note} To verify it, {remedy}"),)
        )
    return stated


def fresh_seed() -> int:
    """A seed that no study draws for its trials."""
    return STUDIES_SEEDS + secrets.randbelow(SEEDS - STUDIES_SEEDS)


def seeds_of(exported: Exported) -> set[int]:
    """The seeds that stand behind what the file states."""
    confirmed: Confirmed | None = exported.confirmed
    return {exported.config.seed, *(confirmed.run_seeds if confirmed is not None else ())}
