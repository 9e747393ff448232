"""Study files: a whole study as lines of JSON, and its trials as CSV tables."""
