"""The networks of the catalogue, as models with stages."""
