"""Exports a study's result: a configuration file, a model card, requirements, and a script."""
