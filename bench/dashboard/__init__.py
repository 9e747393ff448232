"""Benchmarks of the study page on a large study, compared with optuna-dashboard on the same trials."""
