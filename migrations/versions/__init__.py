"""Revisions, the oldest first. A revision is never edited once it was released."""
