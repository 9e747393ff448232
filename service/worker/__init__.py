"""The worker: a supervisor without torch, with one warm trainer process a slot."""
