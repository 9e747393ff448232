"""Lists the labelled images of a folder or table by names and columns alone. Used by the server and the trainer; imports no torch."""

from trainer.data.images.listing.folders import Scan
from trainer.data.images.listing.scan import is_foul, refuse_similar_labels, refuse_unwritable_names, scan

__all__ = ["Scan", "is_foul", "refuse_similar_labels", "refuse_unwritable_names", "scan"]
