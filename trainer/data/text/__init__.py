"""Texts as examples: read from tables, compared, split and tokenized."""
