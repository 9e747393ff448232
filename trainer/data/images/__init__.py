"""Images as examples: found, read, compared, decoded and augmented."""
