"""One fine-tuning run, from a TrainConfig to Progress. Only this package imports torch."""
