"""The target of multi-label tasks: a set of labels for each example."""
