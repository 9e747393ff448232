"""Trains one recorded list of configurations with several engines, without pruning: see `python -m bench.replay --help`."""
