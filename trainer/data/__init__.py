"""Data sets: identifies examples by content, splits them into train, validation and test, and detects changes."""
