"""The target of regression: one number for each example."""
