"""The search space: named parameters and the conditions between them."""

from collections.abc import Iterator, Mapping
from functools import cached_property
from types import MappingProxyType
from typing import Self

from pydantic import Field, RootModel, model_validator
from pydantic.config import ConfigDict

from search_spaces.faults import Fault, raise_if_any
from search_spaces.parameters import (
    MAX_PARAMETERS,
    NAME,
    Categorical,
    Float,
    Int,
    Parameter,
    Scalar,
    cardinality,
    contains,
    domain,
    given,
)

Params = Mapping[str, Scalar]


class SearchSpace(RootModel[dict[str, Parameter]]):
    """Parameters by name. Conditions refer to other parameters of the space and form no cycle."""

    model_config = ConfigDict(frozen=True)
    root: dict[str, Parameter] = Field(max_length=MAX_PARAMETERS)

    @model_validator(mode="after")
    def _conditions_hold_together(self) -> Self:
        raise_if_any(_name_faults(self.root))
        raise_if_any(_condition_faults(self.root))
        raise_if_any(_circle_faults(self.root))
        return self

    @cached_property
    def parameters(self) -> Mapping[str, Float | Int | Categorical]:
        """The parameters in sampling order: each follows the parameters that its condition names."""
        ordered: dict[str, Float | Int | Categorical] = {}
        for name in self.root:
            _place(self.root, name, ordered)
        return MappingProxyType(ordered)

    def active(self, name: str, params: Params) -> bool:
        """Whether the parameter's condition holds for the values sampled so far."""
        when = self.root[name].when
        return all(key in params and _among(params[key], values) for key, values in when.items())

    @cached_property
    def size(self) -> int | None:
        """The number of combinations, ignoring conditions; None if a parameter is continuous."""
        total = 1
        for parameter in self.root.values():
            if (count := cardinality(parameter)) is None:
                return None
            total *= count
        return total

    @cached_property
    def distinct(self) -> int | None:
        """The number of configurations, where those that differ only in inactive parameters count once. None if there are infinitely many.

        Where the conditions have too many branches, this is `size`, which is an upper bound.
        """
        counter = _Counter(self)
        try:
            return counter.count(0, {})
        except _TooManyBranches:
            return self.size

    def missing(self, params: Params) -> tuple[str, ...]:
        """The active parameters that have no value in `params`; empty for a complete configuration."""
        return tuple(name for name in self.parameters if name not in params and self.active(name, params))

    def faults_of_some(self, params: Params) -> Iterator[Fault]:
        """Faults of a partial assignment, whose missing parameters the sampler fills in. Otherwise as `faults_of`.

        A parameter with a condition can be given only together with the parameters that the condition names.
        """
        undecided = {name: [parent for parent in self.root[name].when if parent not in params] for name in params if name in self.root}
        for name, parents in undecided.items():
            if parents:
                listed = " and ".join(parents)
                message = f"its condition depends on {listed}; give {listed} too, or leave this to the sampler"
                yield Fault((name,), "undecided_condition", message)
        for fault in self.faults_of(params):
            if fault.code != "missing_parameter" and not undecided.get(str(fault.path[0])):
                yield fault

    def faults_of(self, params: Params) -> Iterator[Fault]:
        """Faults of a complete assignment: unknown, inactive or missing parameters, and values out of range."""
        for name in params.keys() - self.root.keys():
            yield Fault((name,), "unknown_parameter", "the search space has no such parameter; remove it")
        for name, parameter in self.parameters.items():
            if not self.active(name, params):
                if name in params:
                    yield Fault((name,), "inactive_parameter", "its condition does not hold here; remove it")
            elif name not in params:
                yield Fault((name,), "missing_parameter", "the search space varies it; give it a value")
            elif not contains(parameter, params[name]):
                yield Fault((name,), "out_of_range", f"this takes {domain(parameter)}; {given(parameter, params[name])}")


MOST_BRANCHES = 20_000


class _TooManyBranches(Exception):
    pass


class _Counter:
    """Counts the configurations of a space recursively, parameter by parameter.

    Only the values that conditions name are enumerated; all other values of a parameter are one branch, weighted by their number.
    """

    def __init__(self, space: SearchSpace) -> None:
        self._space, self._names = space, tuple(space.parameters)
        self._named: dict[str, dict[tuple[type, Scalar], Scalar]] = {}
        for parameter in space.root.values():
            for parent, values in parameter.when.items():
                self._named.setdefault(parent, {}).update({(type(value), value): value for value in values})
        self._branches = 0

    def count(self, place: int, known: dict[str, object]) -> int | None:
        """The number of completions of `known` with the parameters from index `place` on; None if infinite."""
        self._branches += 1
        if self._branches > MOST_BRANCHES:
            raise _TooManyBranches
        if place == len(self._names):
            return 1
        name = self._names[place]
        if not self._space.active(name, known):  # type: ignore[arg-type]  # _OTHER is not a scalar
            return self.count(place + 1, known)
        parameter = self._space.root[name]
        single = isinstance(parameter, Float) and parameter.low == parameter.high
        if (values := 1 if single else cardinality(parameter)) is None:
            return None
        named = self._named.get(name, {}).values()
        counts = [self.count(place + 1, known | {name: value}) for value in named]
        if others := values - len(named):
            rest = self.count(place + 1, known | {name: _OTHER})
            counts.append(None if rest is None else others * rest)
        total = 0
        for count in counts:
            if count is None:
                return None
            total += count
        return total


_OTHER = object()
"""Represents all values of a parameter that no condition names."""


def _among(value: Scalar, values: tuple[Scalar, ...]) -> bool:
    return any(type(value) is type(other) and value == other for other in values)


def _name_faults(space: Mapping[str, Parameter]) -> Iterator[Fault]:
    for name in space:
        if not NAME.match(name):
            yield Fault((name,), "invalid_name", "a name starts with a letter or _, then letters, digits, _ and .; at most 64")


def _condition_faults(space: Mapping[str, Parameter]) -> Iterator[Fault]:
    for name, parameter in space.items():
        for parent, values in parameter.when.items():
            place = (name, "when", parent)
            if parent not in space:
                yield Fault(
                    place,
                    "unknown_condition",
                    "the condition names a parameter that the search space lacks; add it or remove the condition",
                )
            elif not values:
                yield Fault(place, "empty_condition", "a condition needs at least one value")
            elif isinstance(owner := space[parent], Float):
                yield Fault(place, "condition_on_float", "a condition can name only a categorical or an int parameter")
            elif not (isinstance(owner, Int) and owner.high is None):
                for index in _never_taken(owner, values):
                    yield Fault((*place, index), "impossible_condition", "the parameter never takes this value; correct it")


def _never_taken(owner: Int | Categorical, values: tuple[Scalar, ...]) -> Iterator[int]:
    """Indices of the values that the parameter cannot take. Uses a set, since there may be a thousand choices and values."""
    choices = {(type(choice), choice) for choice in owner.choices} if isinstance(owner, Categorical) else None
    for index, value in enumerate(values):
        if not (contains(owner, value) if choices is None else (type(value), value) in choices):
            yield index


def _circle_faults(space: Mapping[str, Parameter]) -> Iterator[Fault]:
    for name in space:
        reached, open_ = set[str](), list(space[name].when)
        while open_:
            if (parent := open_.pop()) not in reached:
                reached.add(parent)
                open_.extend(space[parent].when)
        if name in reached:
            yield Fault((name, "when"), "circular_condition", "the conditions form a cycle; break it")


def _place(space: Mapping[str, Parameter], name: str, ordered: dict[str, Float | Int | Categorical]) -> None:
    if name in ordered:
        return
    for parent in space[name].when:
        _place(space, parent, ordered)
    ordered[name] = space[name]
