"""Pretrained text models in Hugging Face's format. `families` and `description` need no torch."""
