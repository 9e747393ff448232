"""Which parameters to try next, and which trial to end: the only place that imports Optuna."""
