"""Image multi-label classification: a set of labels is predicted from an image."""
