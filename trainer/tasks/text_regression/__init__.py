"""Text regression: a number is predicted from a text, or from a pair of texts."""
