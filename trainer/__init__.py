"""One fine-tuning run, from a TrainConfig to Progress. Only this package imports torch."""

import os

# Read by OpenMP when torch is loaded, so they stand here. Threads that wait by spinning without end, which is the usual way, starve
# whoever shares the cores: two small runs side by side on two cores took 27 times as long. Threads that sleep at once are slow to wake:
# a training step took 1.3 times as long, one of many small lanes 1.8 times. So they spin for about a tenth of a millisecond.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("GOMP_SPINCOUNT", "8000")
