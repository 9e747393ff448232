"""Confirmation of a study's result: which configurations are trained again, the statistics, and the verdict."""
