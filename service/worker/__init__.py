"""The worker: a supervisor that does not import torch, and one trainer process per slot."""
