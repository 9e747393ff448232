"""Trains fine-tuning runs: a TrainConfig in, Progress messages out. Only this package imports torch."""

import os

# OpenMP reads these when torch is loaded, so they must be set first. By default idle threads spin without limit and starve other
# processes on the same cores: two small runs side by side on two cores took 27 times as long. Threads that sleep immediately are slow to
# wake: a training step took 1.3 times as long, a step of many small heads 1.8 times. So idle threads spin for about 0.1 ms, then sleep.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("GOMP_SPINCOUNT", "8000")
