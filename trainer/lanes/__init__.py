"""Many runs of the head alone, trained together in one pass over stored features.

After HFTA (Wang et al. 2021) and the linear evaluation of DINOv2 (Oquab et al. 2023): `split` finds the head's layers, `layers` and
`head` run them for all lanes at once, `optimization` moves them, and `train` is the pass from its first epoch to its last.
"""

from trainer.lanes.train import LaneRun, Pass, fits

__all__ = ["LaneRun", "Pass", "fits"]
