"""Models as ordered stages that can be frozen from the input on, and what is wrong with those that cannot be built."""
