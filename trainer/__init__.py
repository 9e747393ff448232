"""One fine-tuning run, from a TrainConfig to Progress. Only this package imports torch."""

import os

# Read by OpenMP when torch is loaded, so it stands here. Threads that wait by spinning starve whoever shares the cores: two small runs
# side by side on two cores took 27 times as long.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
