"""Samplers and pruners: the only package that imports Optuna."""
