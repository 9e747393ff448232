"""Search spaces: parameters, conditions, faults, and the presets that ship with Thawline."""

from search_spaces.faults import Fault, Faulty, Path, raise_if_any
from search_spaces.parameters import Categorical, Float, FrozenModel, Int, Parameter, Scalar, cardinality, contains, nearest
from search_spaces.space import Params, SearchSpace

__all__ = [
    "Categorical", "Fault", "Faulty", "Float", "FrozenModel", "Int", "Parameter", "Params", "Path", "Scalar",
    "SearchSpace", "cardinality", "contains", "nearest", "raise_if_any",
]  # fmt: skip
