"""Private names of Optuna are used in one module, and these are all of them."""

import ast
import re
from pathlib import Path

from service.search import optuna_private

MODULE = Path(optuna_private.__file__)
IMPORTED = {
    "optuna._transform._SearchSpaceTransform",
    "optuna.pruners._percentile._get_percentile_intermediate_result_over_trials",
    "optuna.pruners._successive_halving._completed_rung_key",
    "optuna.pruners._successive_halving._get_current_rung",
    "optuna.samplers._tpe.parzen_estimator._ParzenEstimator",
    "optuna.samplers._tpe.parzen_estimator._ParzenEstimatorParameters",
    "optuna.samplers._tpe.probability_distributions._BatchedCategoricalDistributions",
    "optuna.samplers._tpe.probability_distributions._BatchedDiscreteTruncLogNormDistributions",
    "optuna.samplers._tpe.probability_distributions._BatchedDiscreteTruncNormDistributions",
    "optuna.samplers._tpe.probability_distributions._BatchedTruncLogNormDistributions",
    "optuna.samplers._tpe.probability_distributions._BatchedTruncNormDistributions",
    "optuna.samplers._tpe.sampler.default_gamma",
    "optuna.samplers._tpe.sampler.default_weights",
    "optuna.search_space.group_decomposed._SearchSpaceGroup",
    "optuna.study._frozen.FrozenStudy",
}
ATTRIBUTES = {
    "_mixture_distribution", "_suggest", "_deterministic", "_study_id", "_pruners", "_try_initialization", "_get_bracket_id", "_storage",
}  # fmt: skip
OWN_ATTRIBUTES = {"_bracket_of", "_pruner", "_study"}


def imported_private(source: str) -> set[str]:
    """Names imported from Optuna that are private, or that a private module has."""
    found = set[str]()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and node.module is not None and node.module.split(".")[0] == "optuna":
            found |= {f"{node.module}.{each.name}" for each in node.names}
        elif isinstance(node, ast.Import):
            found |= {each.name for each in node.names if each.name.split(".")[0] == "optuna"}
    return {name for name in found if re.search(r"\._[a-z_A-Z]", name)}


def private_attributes(source: str, *, of_others: bool) -> set[str]:
    """Attributes with a leading underscore, of all objects or of all but `self` and `cls`."""
    return {
        node.attr
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Attribute) and node.attr.startswith("_") and not node.attr.startswith("__")
        if not (of_others and isinstance(node.value, ast.Name) and node.value.id in ("self", "cls"))
    }


def test_the_module_uses_these_private_names() -> None:
    source = MODULE.read_text()
    assert imported_private(source) == IMPORTED
    assert private_attributes(source, of_others=False) - OWN_ATTRIBUTES == ATTRIBUTES


def test_no_other_module_uses_a_private_name_of_optuna() -> None:
    others = [path for path in MODULE.parents[1].rglob("*.py") if path != MODULE]
    assert len(others) > 100
    assert {path.name: names for path in others if (names := imported_private(path.read_text()))} == {}
    beside = [path for path in MODULE.parent.rglob("*.py") if path != MODULE]
    assert {path.name: names for path in beside if (names := private_attributes(path.read_text(), of_others=True))} == {}
