"""Many runs of the head alone, trained together in one pass over stored features.

After HFTA (Wang et al. 2021) and the linear evaluation of DINOv2 (Oquab et al. 2023): `split` finds the head's layers, `layers` and
`head` run them for all lanes at once, `optimization` steps them, and `group` is the pass from its first epoch to its last.
"""
