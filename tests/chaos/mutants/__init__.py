"""Ways to break the product, each caught by a scenario: see `tests.chaos.mutate`."""
