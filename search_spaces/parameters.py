"""Parameters of a search space: float, int and categorical, each with an optional condition."""

import json
import math
import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Literal, Self, assert_never

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, StrictBool, StrictInt, StrictStr, model_validator

from search_spaces.faults import Fault, raise_if_any

Scalar = StrictBool | StrictInt | FiniteFloat | StrictStr | None
NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.]{0,63}\Z")
MAX_CHOICES = 1_000
MAX_PARAMETERS = 64
MAX_STRING = 256
LISTED_CHOICES = 12  # in a message
MAX_STEPS = 1_000_000  # of a range of floats

Condition = Annotated[Mapping[str, Annotated[tuple[Scalar, ...], Field(max_length=MAX_CHOICES)]], Field(max_length=MAX_PARAMETERS)]


class FrozenModel(BaseModel):
    """Immutable model that is validated when it is created."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Float(FrozenModel):
    """A real number between `low` and `high`, both included, optionally on a log scale or in steps."""

    type: Literal["float"] = "float"
    low: FiniteFloat
    high: FiniteFloat
    log: bool = False
    step: FiniteFloat | None = None
    when: Condition = Field(default_factory=dict)

    @model_validator(mode="after")
    def _range_is_sound(self) -> Self:
        raise_if_any([*_range_faults(self.low, self.high, self.log, self.step), *_step_faults(self.low, self.high, self.step)])
        return self


class Int(FrozenModel):
    """A whole number between `low` and `high`, both included. Only `frozen_layers` may omit `high`."""

    type: Literal["int"] = "int"
    low: StrictInt = Field(ge=-(2**53), le=2**53)
    high: StrictInt | None = Field(default=None, ge=-(2**53), le=2**53)
    log: bool = False
    step: StrictInt | None = None
    when: Condition = Field(default_factory=dict)

    @model_validator(mode="after")
    def _range_is_sound(self) -> Self:
        high = self.low if self.high is None else self.high
        raise_if_any(_range_faults(self.low, high, self.log, self.step))
        return self

    @property
    def top(self) -> int:
        """The upper bound. Raises ValueError for a range without one."""
        if self.high is None:
            raise ValueError("the range has no upper bound yet")
        return self.high


class Categorical(FrozenModel):
    """One of a list of unordered values."""

    type: Literal["categorical"] = "categorical"
    choices: tuple[Scalar, ...] = Field(min_length=1, max_length=MAX_CHOICES)
    when: Condition = Field(default_factory=dict)

    @model_validator(mode="after")
    def _choices_are_distinct(self) -> Self:
        raise_if_any(_choice_faults(self.choices))
        return self


Parameter = Annotated[Float | Int | Categorical, Field(discriminator="type")]


def _range_faults(low: float, high: float, log: bool, step: float | None) -> list[Fault]:
    faults = []
    if low > high:
        faults.append(Fault(("low",), "low_above_high", "low is above high; exchange them"))
    if log and low <= 0:
        faults.append(Fault(("low",), "log_from_zero", "a log range must start above 0; raise low or remove log"))
    if step is not None and log:
        faults.append(Fault(("step",), "log_with_step", "a log range has no step; remove log or step"))
    if step is not None and step <= 0:
        faults.append(Fault(("step",), "step_not_positive", "step must be above 0"))
    elif step is not None and low <= high and step > high - low > 0:
        faults.append(Fault(("step",), "step_above_range", "step is wider than the range; make it smaller"))
    return faults


def _step_faults(low: float, high: float, step: float | None) -> Iterator[Fault]:
    if step is not None and step > 0 and (high - low) / step > MAX_STEPS:
        yield Fault(("step",), "step_too_fine", f"the range has more than {MAX_STEPS} steps; make them wider, or remove step")


def _choice_faults(choices: tuple[Scalar, ...]) -> list[Fault]:
    seen: set[tuple[type, Scalar]] = set()
    faults = []
    for place, choice in enumerate(choices):
        if (key := (type(choice), choice)) in seen:
            faults.append(Fault(("choices", place), "duplicate_choice", "this choice is listed twice; remove one"))
        seen.add(key)
        if isinstance(choice, str) and len(choice) > MAX_STRING:
            faults.append(Fault(("choices", place), "choice_too_long", f"a choice has at most {MAX_STRING} characters; shorten it"))
    return faults


def contains(parameter: Float | Int | Categorical, value: Scalar) -> bool:
    """Whether the parameter can take this value (floats within rounding of a step)."""
    match parameter:
        case Categorical(choices=choices):
            return any(type(choice) is type(value) and choice == value for choice in choices)
        case Int():
            whole = isinstance(value, int) and not isinstance(value, bool)
            return whole and parameter.low <= value <= parameter.top and _on_step(parameter, value)  # type: ignore[operator,arg-type]
        case Float():
            number = isinstance(value, int | float) and not isinstance(value, bool)
            return number and parameter.low <= value <= parameter.high and _on_step(parameter, value)  # type: ignore[operator,arg-type]
        case _:
            assert_never(parameter)


def domain(parameter: Float | Int | Categorical) -> str:
    """The type and the range or choices of the parameter, as a phrase for messages."""
    match parameter:
        case Categorical(choices=choices):
            listed = ", ".join(json.dumps(choice, ensure_ascii=False) for choice in choices[:LISTED_CHOICES])
            return f"one of the choices {listed}" + (f" and {len(choices) - LISTED_CHOICES} more" if len(choices) > LISTED_CHOICES else "")
        case Int():
            step = f" in steps of {parameter.step}" if parameter.step else ""
            return f"a whole number (int) from {parameter.low} to {parameter.top}{step}"
        case Float():
            step = f" in steps of {parameter.step:g}" if parameter.step else ""
            return f"a number (float) from {parameter.low:g} to {parameter.high:g}{step}"
        case _:
            assert_never(parameter)


def given(parameter: Float | Int | Categorical, value: object) -> str:
    """A phrase for messages: the type of a value that the parameter cannot take, and the remedy. The value is not repeated."""
    kinds = {bool: "a boolean", int: "an int", float: "a float", str: "a string", type(None): "null", list: "a list", dict: "a mapping"}
    kind = kinds.get(type(value), "a value of another type")
    match parameter:
        case Categorical(choices=choices):
            taken: set[type] = {type(choice) for choice in choices}
        case Int():
            taken = {int}
        case Float():
            taken = {int, float}
        case _:
            assert_never(parameter)
    if type(value) not in taken:
        return f"{kind} was given; change its type"
    return f"{kind} outside of that was given; correct it"


def nearest(parameter: Float | Int | Categorical, value: Scalar) -> Scalar:
    """The value of the parameter that is nearest to this one; the first choice of a categorical parameter without numbers."""
    number = float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
    match parameter:
        case Categorical(choices=choices):
            numbers = [choice for choice in choices if isinstance(choice, int | float) and not isinstance(choice, bool)]
            alike = [choice for choice in choices if type(choice) is type(value) and choice == value]
            if alike or number is None or not numbers:
                return alike[0] if alike else choices[0]
            return min(numbers, key=lambda choice: abs(choice - number))
        case Int():
            return int(_nearest_on_step(parameter.low, parameter.top, parameter.step or 1, parameter.low if number is None else number))
        case Float():
            return _nearest_on_step(parameter.low, parameter.high, parameter.step, parameter.low if number is None else number)
        case _:
            assert_never(parameter)


def _nearest_on_step(low: float, high: float, step: float | None, value: float) -> float:
    within = min(max(value, low), high)
    if step is None:
        return within
    return low + min(round((within - low) / step), int((high - low) / step + 1e-8)) * step


def _on_step(parameter: Float | Int, value: float) -> bool:
    if parameter.step is None:
        return True
    steps = (value - parameter.low) / parameter.step
    return math.isclose(steps, round(steps), abs_tol=1e-8)


def cardinality(parameter: Float | Int | Categorical) -> int | None:
    """The number of values of the parameter; None for a continuous one."""
    match parameter:
        case Categorical(choices=choices):
            return len(choices)
        case Int():
            return (parameter.top - parameter.low) // (parameter.step or 1) + 1
        case Float():
            return None if parameter.step is None else int((parameter.high - parameter.low) / parameter.step + 1e-8) + 1
        case _:
            assert_never(parameter)
