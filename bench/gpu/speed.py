"""Run 2: how fast the product is on this card."""

from bench.gpu import heads, training
from bench.gpu.parts import Part

PARTS = (
    Part("train", training.train_speed, seconds=110, least_seconds=20),
    Part("changes", training.changes, seconds=35, least_seconds=15),
    Part("heads", heads.speed, seconds=60, least_seconds=20),
    Part("planner", training.planning, seconds=35, least_seconds=15),
    Part("packing", training.packing, seconds=55, least_seconds=20),
    Part("repeatability", training.repeatability, seconds=40, least_seconds=10),
)
