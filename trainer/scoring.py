"""Evaluates a learner's models on validation and test examples."""

import logging
from collections.abc import Generator, Mapping, Sequence
from functools import partial

import torch
from torch import Tensor

from trainer.data.examples import BadData, NoTestExamples
from trainer.features import Inputs
from trainer.features.source import Sign
from trainer.learners import Learner
from trainer.order import RowsAhead
from trainer.preparation import PreparedRun, taken
from trainer.protocol import Scores
from trainer.targets.examples import MOST_NAME, NamedExample
from trainer.tasks.base import Examples, Measurement, Ragged

log = logging.getLogger(__name__)


def require_test_examples(run: PreparedRun) -> None:
    """Raises NoTestExamples when the split has none."""
    if not len(run.test):
        share, noun = run.config.data.test, f"{run.task.spec.example}s"
        raise NoTestExamples(f"there are no test {noun} to score the trained model on: data.test is {share:g}; set it above 0, say to 0.2")


def evaluate(
    run: PreparedRun,
    learner: Learner,
    inputs: Inputs,
    rows: Tensor,
    sign: Sign,
    *,
    validated: Mapping[int, Measurement] | None = None,
) -> Generator[Sign, None, dict[int, Measurement]]:
    """Returns each member's measurement on the examples of those rows.

    `validated` are the members' measurements on the validation examples if the rows are test examples. Their decisions hold for these, and
    the reports have values of each example.
    Yields `sign` between two batches, so that the consumer sees progress and can stop.
    """
    found, width = torch.empty(0), run.task.tally_width(len(rows), run.info)
    places = places_of(run.examples, rows, max(run.config.batch_size, learner.smallest_batch))
    batches = [rows[own] for own in places]
    inputs.expect(batches, None)
    ahead = RowsAhead(run.device)
    ahead.expect(batches)
    for batch, some in enumerate(batches):
        if batch:
            yield sign
        for members, tallies in learner.tallies(inputs.batch(some, None), taken(run.targets, some, ahead)):
            if not found.numel():
                found = tallies.new_empty((len(learner.members), len(rows), tallies[..., :width].shape[-1]))  # [M, N, K]
            found[members, places[batch]] = tallies[..., :width]
    measured: Sequence[Measurement] = run.task.measure(
        found,
        taken(run.targets, rows),
        run.info,
        examples=validated is not None,
        names=partial(_named, run, rows, run.shown if validated is None else 0),
        decisions=None if validated is None else [validated[number].decision for number in learner.members],
    )
    return dict(zip(learner.members, measured, strict=True))


def _named(run: PreparedRun, rows: Tensor, shown: int, places: Sequence[int]) -> list[NamedExample]:
    """As `trainer.tasks.base.Names`."""
    own, fields = [int(rows[place]) for place in places], list[Mapping[str, str]]()
    try:
        fields += run.task.shown(run.dataset, run.examples, own[:shown])
    except BadData as error:  # a file that cannot be read any more; the run has been trained
        log.warning("the report shows no examples: %s", error)
    fields += [{}] * (len(own) - len(fields))
    copies = [int((rows[:place] == row).sum()) for place, row in zip(places, own, strict=True)]  # a row is repeated for each equal example
    names = [run.dataset.contents[row].files[copy].name.encode("utf-8", "replace").decode() for row, copy in zip(own, copies, strict=True)]
    short = [name if len(name) <= MOST_NAME else f"…{name[1 - MOST_NAME :]}" for name in names]
    return [NamedExample(name=name, **one) for name, one in zip(short, fields, strict=True)]


def places_of(examples: Examples, rows: Tensor, size: int) -> Sequence[slice | Tensor]:
    """The places of batches of at most `size` in the rows; sequences of similar lengths together, so that little padding is computed."""
    if isinstance(examples, Ragged):
        return torch.split(examples.lengths[rows].argsort(stable=True), size)
    return [slice(first, first + size) for first in range(0, len(rows), size)]


def score(
    run: PreparedRun, learner: Learner, inputs: Inputs, validated: Mapping[int, Measurement], sign: Sign
) -> Generator[Sign, None, dict[int, Scores]]:
    """Returns each member's scores on the test examples; `inputs` are those of the training. Yields like `evaluate`.

    `validated` are the members' measurements on the validation examples, whose decisions hold for the test examples.
    """
    of_test = inputs.for_test()
    yield from of_test.ready(None, sign)
    measured = yield from evaluate(run, learner, of_test, run.test, sign, validated=validated)
    return {
        number: Scores(metrics=one.metrics, report=one.report().model_dump(mode="json", exclude_none=True))
        for number, one in measured.items()
    }
