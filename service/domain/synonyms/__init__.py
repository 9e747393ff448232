"""Translate names and spellings of other tools: W&B, Optuna, Ray Tune, Katib, SageMaker, Hugging Face.

Each translated entry is a fault whose message quotes the line to write.
"""

from service.domain.synonyms.document import translate

__all__ = ["translate"]
