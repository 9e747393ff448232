"""The networks of the catalogue as staged models."""
