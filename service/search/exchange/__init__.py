"""Studies to and from a database of Optuna's."""
