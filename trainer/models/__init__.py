"""Image classifiers as ordered stages that can be frozen from the bottom."""
