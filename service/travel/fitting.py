"""Parameters from elsewhere, made to fit a study's search space, or refused all together."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from search_spaces import Categorical, Fault, Float, Int, Scalar, contains
from service.domain.errors import InvalidInput
from service.domain.spec import StudySpec

REMEDIES: Mapping[str, str] = {
    "unknown_parameter": "{count} of {all} trials have this parameter and the study does not; vary it in search_space, or fix it in fixed "
    "where all have one value",
    "missing_parameter": "{count} of {all} trials lack this parameter, which the search space varies; move it to fixed",
    "inactive_parameter": "{count} of {all} trials have this parameter where its condition does not hold; drop its `when`",
    "out_of_range": "in {count} of {all} trials this lies outside the range or choices{found}; widen them",
}


class _Found(NamedTuple):
    name: str
    code: str


def fit(spec: StudySpec, trials: Sequence[Mapping[str, Any]]) -> list[dict[str, Scalar]]:
    """Each trial's parameters as the space has them; what `fixed` says already is dropped.

    Raises InvalidInput with one fault for each parameter that does not fit: in how many trials, and the remedy. None is fitted then.
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
    spread = f": they go from {min(numbers):g} to {max(numbers):g}" if numbers else ""
    message = REMEDIES[found.code].format_map({"count": len(values), "all": trials, "found": spread})
    return Fault(("search_space", found.name), found.code, message)


def _is_fixed(spec: StudySpec, name: str, value: Any) -> bool:
    return name in spec.fixed and name not in spec.search_space.root and spec.fixed[name] == value


def _as_ours(spec: StudySpec, name: str, value: Any) -> Any:
    """The value itself, or the one of another type that is the same number."""
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
    """The bound that the value exceeds by no more than a rounding, else the value."""
    near = min(max(value, parameter.low), parameter.high)
    return near if abs(near - value) <= 1e-9 * max(abs(near), abs(value)) else value
