"""Image regression: a number is predicted from an image."""
