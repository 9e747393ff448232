"""Examples by content: identified, split into train, validation and test, and compared with what was expected."""
