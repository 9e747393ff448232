"""One recorded list of configurations through several engines, each trial to its full length: see `python -m bench.replay --help`."""
