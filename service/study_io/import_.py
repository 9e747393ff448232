"""Checks the lines of a study file against each other, and fits parameters from other tools into a search space."""

import logging
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO, NamedTuple

from search_spaces import Categorical, Fault, Faulty, Float, Int, Scalar, contains
from service.domain.errors import InvalidInput
from service.domain.parsing import parse_study
from service.domain.records import CONFIRMATION
from service.domain.samplers import within_bounds
from service.domain.spec import StudySpec
from service.study_io.format import EndLine, ReportsLine, StudyFileLine, StudyLine, TrialLine, lines, refuse, test_report
from trainer.configuration import counted
from trainer.tasks.capabilities import ExampleScores, PerExample
from trainer.tasks.registry import spec_of

MAX_PRESET = 64
MAX_VALUES = 10_000_000  # about a gigabyte in the database

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Header:
    """The first line of a file, and its spec as it would be imported."""

    line: StudyLine
    spec: StudySpec


def sound(file: BinaryIO, name: str | None = None) -> Header:
    """Read the whole file and return its header if all lines are sound. Raises InvalidInput, which names the line."""
    file.seek(0)
    header = next(found := checked(file, name))
    for _ in found:
        pass
    assert isinstance(header, Header)  # noqa: S101  (`lines` refuses a file with another first line)
    return header


def checked(file: BinaryIO, name: str | None = None) -> Iterator[Header | TrialLine | ReportsLine]:
    """The header, then the other lines in the order of the file. `name` replaces the study's name.

    The file is sound only if the iterator reaches its end. Raises InvalidInput, which names the line.
    """
    check: _Check | None = None
    values = 0
    for number, line in lines(file):
        if isinstance(line, StudyLine):
            header = header_of(line, name)
            check = _Check(header)
            yield header
        elif check is not None:
            if (fault := next(check.faults(line), None)) is not None:
                refuse(number, fault)
            if (values := values + _values(line)) > MAX_VALUES:
                refuse(
                    number, Fault(("reports",), "too_many_values", f"a file has at most {MAX_VALUES} reported values; drop some metrics")
                )
            if not isinstance(line, EndLine):
                yield line


def _values(line: StudyFileLine) -> int:
    """The largest number of database rows that the metrics of a line may need."""
    match line:
        case TrialLine():
            return len(line.reports.steps) * len(line.reports.metrics)
        case ReportsLine():
            return len(line.steps) * len(line.metrics)
        case StudyLine() | EndLine():
            return 0


def header_of(line: StudyLine, name: str | None = None) -> Header:
    """The header from a first line. Its spec is checked like that of a new study. Raises InvalidInput, which names the line."""
    sampler, warning = within_bounds(line.spec.get("sampler"))
    if warning is not None:
        log.warning("imported study: %s", warning)
    document: dict[str, Any] = {**line.spec, "preset": None, "name": name if name is not None else line.name}
    document |= {} if warning is None else {"sampler": sampler}
    preset = line.spec.get("preset")
    try:
        spec = parse_study(document)
        if preset is not None and not (isinstance(preset, str) and len(preset) <= MAX_PRESET):
            raise InvalidInput([Fault(("preset",), "unknown_preset", f"a preset's name has at most {MAX_PRESET} characters; shorten it")])
    except InvalidInput as error:
        raise InvalidInput(
            fault if name and fault.path == ("name",) else fault.below(("line 1", "spec")) for fault in error.faults
        ) from None
    header = Header(line, spec.model_copy(update={"preset": preset}))
    if (fault := next(_header_faults(header), None)) is not None:
        refuse(1, fault)
    return header


def _header_faults(header: Header) -> Iterator[Fault]:
    if header.line.facts is not None and header.line.facts.task != header.spec.task:
        yield Fault(("facts", "task"), "another_task", f"this differs from the task of the study, which is {header.spec.task}; correct it")
    yield from _confirmation_faults(header)


def _confirmation_faults(header: Header) -> Iterator[Fault]:
    found, created = header.line.confirmation, header.line.created
    if found is None:
        return
    if header.spec.confirm is None or header.line.facts is None:
        yield Fault(("confirmation",), "nothing_confirmed", "a study without confirm or without facts has no confirmation; write null")
    if len(set(found.arms)) < len(found.arms) or found.baseline not in found.arms or not all(0 <= one < created for one in found.arms):
        yield Fault(("confirmation",), "unknown_arms", "arms must be distinct trials of the study and include the baseline; correct them")


class _Check:
    """Checks the lines after the first one, in order."""

    def __init__(self, header: Header) -> None:
        self._header = header
        self._next = 0
        self._last: TrialLine | None = None
        self._step = 0
        self._arms: dict[int, Mapping[str, Scalar] | None] = dict.fromkeys(
            header.line.confirmation.arms if header.line.confirmation else ()
        )
        self._repeats = set[tuple[int | None, int | None]]()
        self._examples: ExampleScores | None = None

    def faults(self, line: StudyFileLine) -> Iterator[Fault]:
        """The faults of the line at this position of the file."""
        match line:
            case TrialLine():
                yield from self._trial_faults(line)
                self._last, self._next = line, line.number + 1
                self._step = line.reports.steps[-1] if line.reports.steps else 0
            case ReportsLine():
                yield from self._chunk_faults(line)
                self._step = line.steps[-1] if line.steps else self._step
            case EndLine() if self._next != self._header.line.created:
                yield Fault(
                    ("trials",),
                    "trials_missing",
                    f"the study has {counted(self._header.line.created, 'trial')}, but the file has {self._next}",
                )
            case EndLine() | StudyLine():
                return

    def _trial_faults(self, trial: TrialLine) -> Iterator[Fault]:
        if trial.number != self._next:
            yield Fault(("number",), "number_gap", f"trial {self._next} is expected here, because numbers rise by 1; restore the lines")
        elif trial.number >= self._header.line.created:
            yield Fault(
                ("number",),
                "too_many_trials",
                f"the number must be below `created` of the first line, which is {self._header.line.created}; correct it",
            )
        space = self._header.spec.search_space
        some = trial.attempt == 0 and trial.source == "user"  # such a trial may lack parameters that the sampler adds at its claim
        for fault in space.faults_of_some(trial.params) if some else space.faults_of(trial.params):
            yield fault.below(("params",))
        yield from self._repeat_faults(trial)
        yield from self._report_faults(trial)
        if trial.number in self._arms:
            self._arms[trial.number] = trial.params

    def _repeat_faults(self, trial: TrialLine) -> Iterator[Fault]:
        if trial.source != CONFIRMATION:
            if trial.number in self._arms or not self._repeats:
                return
            yield Fault(
                ("source",),
                "search_after_confirmation",
                "trials of the search must come before those of the confirmation; restore the lines",
            )
        elif trial.number in self._arms or self._arms.get(trial.confirms or 0) != trial.params:
            yield Fault(("confirms",), "not_an_arm", "this must be one of confirmation.arms, with the same params; correct it")
        elif (key := (trial.confirms, trial.round)) in self._repeats and trial.state != "cancelled":
            yield Fault(("round",), "round_twice", "another trial of this round confirms the same trial; remove one of them")
        elif trial.state != "cancelled":
            self._repeats.add(key)

    def _report_faults(self, trial: TrialLine) -> Iterator[Fault]:
        """Faults of the task's reports, and of test scores that are not of the same examples as earlier ones."""
        task = spec_of(self._header.spec.task)
        try:
            report = test_report(task, trial.result)
        except Faulty as error:
            yield from (fault.below(("result",)) for fault in error.faults)
            return
        if report is None or not isinstance(task, PerExample):
            return
        examples = task.examples(report)
        if self._examples is not None and examples is not None and not examples.are_those_of(self._examples):
            others = f"earlier trials were scored on other test {task.example}s; remove this, or correct it"
            yield Fault(("result", "test"), "other_examples", others)
        self._examples = self._examples or examples

    def _chunk_faults(self, line: ReportsLine) -> Iterator[Fault]:
        if self._last is None or line.number != self._last.number:
            yield Fault(("number",), "out_of_order", "reports must follow the line of their trial; restore the order")
        elif line.steps and not self._step < line.steps[0] <= line.steps[-1] <= self._last.step:
            yield Fault(
                ("steps",), "steps_out_of_order", "steps must continue those of the line before, up to the trial's step; restore the lines"
            )


REMEDIES: Mapping[str, str] = {
    "unknown_parameter": "{count} of {all} trials have this parameter, but the study does not; add it to search_space, or to fixed "
    "if all trials have the same value",
    "missing_parameter": "{count} of {all} trials lack this parameter of the search space; move it to fixed",
    "inactive_parameter": "{count} of {all} trials have this parameter although its condition does not hold; remove its `when`",
    "out_of_range": "in {count} of {all} trials the value lies outside the range or choices{found}; widen them",
}


class _Found(NamedTuple):
    name: str
    code: str


def fit(spec: StudySpec, trials: Sequence[Mapping[str, Any]]) -> list[dict[str, Scalar]]:
    """Each trial's parameters with the types of the search space. Parameters that equal those in `fixed` are dropped.

    Raises InvalidInput if any parameter does not fit, with one fault per parameter: the number of trials, and the remedy.
    """
    fitted, misfits = list[dict[str, Scalar]](), defaultdict[_Found, list[Any]](list)
    for params in trials:
        own = {name: _as_ours(spec, name, value) for name, value in params.items() if not _is_fixed(spec, name, value)}
        fitted.append(own)
        for fault in spec.search_space.faults_of(own):
            name = str(fault.path[0])
            misfits[_Found(name, fault.code)].append(own.get(name))
    if misfits:
        raise InvalidInput(_fault(found, values, len(trials)) for found, values in sorted(misfits.items()))
    return fitted


def _fault(found: _Found, values: Sequence[Any], trials: int) -> Fault:
    numbers = [value for value in values if isinstance(value, int | float) and not isinstance(value, bool)]
    spread = f": the values range from {min(numbers):g} to {max(numbers):g}" if numbers else ""
    message = REMEDIES[found.code].format_map({"count": len(values), "all": trials, "found": spread})
    return Fault(("search_space", found.name), found.code, message)


def _is_fixed(spec: StudySpec, name: str, value: Any) -> bool:
    return name in spec.fixed and name not in spec.search_space.root and spec.fixed[name] == value


def _as_ours(spec: StudySpec, name: str, value: Any) -> Any:
    """The value, converted to the type of its parameter if that is the same number."""
    parameter = spec.search_space.root.get(name)
    if parameter is None or isinstance(value, bool) or not isinstance(value, int | float) or contains(parameter, value):
        return value
    match parameter:
        case Int() if isinstance(value, float) and value.is_integer():
            return int(value)
        case Float():
            return _within(parameter, float(value))
        case Categorical(choices=choices):
            same = [choice for choice in choices if not isinstance(choice, bool) and choice == value]
            return same[0] if same else value
        case _:
            return value


def _within(parameter: Float, value: float) -> float:
    """The value, clipped to the bounds if it exceeds them by no more than rounding."""
    near = min(max(value, parameter.low), parameter.high)
    return near if abs(near - value) <= 1e-9 * max(abs(near), abs(value)) else value
