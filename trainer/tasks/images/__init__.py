"""The image modality: what tasks with images as input have in common. `config` and `spec` import no torch."""
