"""Targets: what a model predicts, a package each. `config` and `spec` modules import no torch."""
