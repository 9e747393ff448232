"""Text multi-label classification: a set of labels is predicted from a text, or from a pair of texts."""
