"""The text modality: what all tasks on texts have in common."""
