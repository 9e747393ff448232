"""Whether results are better than the best constant prediction of their data."""

from dataclasses import dataclass

from service.domain.verdict import Verdict
from trainer.configuration import DatasetInfo, Part
from trainer.tasks.base import ConstantPrediction, ConstantScore
from trainer.tasks.registry import spec_of

ROUNDING = 1e-9


@dataclass(frozen=True, slots=True)
class Constant:
    """The score of the best constant prediction on one part of the data, to compare results with."""

    score: ConstantScore
    task: str
    metric: str

    def is_beaten_by(self, value: float) -> bool:
        """Whether a result is better than the constant prediction."""
        metric, constant = spec_of(self.task).metrics[self.metric], self.score.value
        return value > constant + ROUNDING if metric.direction == "maximize" else value < constant - ROUNDING

    def judged(self, value: float) -> str | None:
        """A sentence for a best value of a search that is not better, by plain comparison; None if it is better."""
        if self.is_beaten_by(value):
            return None
        return f"{self.metric.capitalize()} {self._shown(value)}, the best so far, is not better than this. {self.score.advice}".rstrip()

    def confirmed(self, verdict: Verdict) -> str | None:
        """Sentences about a confirmed result, which is better only if its whole interval is. None without a confirmation."""
        interval = verdict.new_images or verdict.expected
        if interval is None:
            return None
        better = self.is_beaten_by(interval.low) and self.is_beaten_by(interval.high)
        examples = f"{spec_of(self.task).example}s"
        where = f"on new {examples} of the same kind" if verdict.new_images is not None else f"on the test {examples}"
        shown = f"{self._shown(interval.low)} to {self._shown(interval.high)} {where}"
        if better:
            return f"{self.score.sentence} The confirmed result, {shown}, is better."
        return f"{self.score.sentence} The confirmed result, {shown}, is not better beyond its uncertainty. {self.score.advice}".rstrip()

    def _shown(self, value: float) -> str:
        return spec_of(self.task).metrics[self.metric].shown(value)


def constant_of(facts: DatasetInfo | None, part: Part, metric: str) -> Constant | None:
    """None where the task has no constant prediction for that metric, or the facts are too few for one."""
    task = spec_of(facts.task) if facts is not None else None
    if facts is None or not isinstance(task, ConstantPrediction) or (score := task.constant(facts, part, metric)) is None:
        return None
    return Constant(score, facts.task, metric)
