"""Names and spellings of other tools (W&B, Optuna, Ray Tune, Katib, SageMaker, Hugging Face), answered with the line to write."""

from service.domain.synonyms.document import translate

__all__ = ["translate"]
