"""Trains the heads of many runs together on the same stored features.

After HFTA (Wang et al. 2021) and the linear evaluation of DINOv2 (Oquab et al. 2023). `stack` finds the layers of a head, `layers` computes
them forward and backward for all members at once, `optimizers` updates them, and `ensemble` is the learner.
"""

from trainer.heads.ensemble import HeadEnsemble, fits

__all__ = ["HeadEnsemble", "fits"]
