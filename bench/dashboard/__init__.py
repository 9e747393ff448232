"""The study page at the size that dashboards give up at, beside optuna-dashboard on the same trials."""
