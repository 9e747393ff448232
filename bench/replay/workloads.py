"""The workloads of the lists: a dataset with a model, as in a study."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, Literal

import trainer.tasks.images.catalogue as catalogue
from bench.replay.recorded import Recorded
from trainer.configuration import Frozen
from trainer.tasks.images.config import ImageData, ImageModel

Name = Literal["digits", "signs"]
SHARED = Path(__file__).resolve().parents[2] / "../shared/data"
HALF = (0.5, 0.5, 0.5)  # as in the pretraining of the demo's network


class Workload(Frozen):
    """Images, a pretrained model, and its image size."""

    name: Name
    data: ImageData
    model: ImageModel
    image_size: int

    @property
    def stages(self) -> int:
        return len(catalogue.load(self.model.name).stages)

    @property
    def title(self) -> str:
        return {"digits": "the demo's digits, small_cnn, 16 px", "signs": "sign-digits, SqueezeNet 1.1, 64 px"}[self.name]

    def study(self, recorded: Recorded, trials: int, seed: int) -> dict[str, Any]:
        """The document of the study whose trials are the list's points. The trials' seeds are derived from the study's."""
        return {
            "name": f"replay-{recorded.name}",
            "data": self.data.model_dump(mode="json"),
            "model": self.model.model_dump(mode="json"),
            "search_space": recorded.space(self.stages),
            "fixed": recorded.fixed(self.stages, self.image_size),
            "objective": {"metric": "accuracy", "direction": "maximize"},
            "sampler": {"name": "random", "seed": seed},
            "budget": {"trials": trials},
        }


def digits(folder: Path) -> Workload:
    """The demo's data and weights, created in the folder if they do not exist."""
    made = subprocess.run(
        [sys.executable, "-m", "trainer.tasks.image_classification.demo", str(folder)], capture_output=True, text=True, check=True
    )
    paths = json.loads(made.stdout.splitlines()[-1])
    return Workload(
        name="digits",
        data=ImageData(path=paths["data"], validation=0.2, test=0.2),
        model=ImageModel(name="small_cnn", weights=paths["weights"], mean=HALF, std=HALF),
        image_size=16,
    )


def signs(shared: Path = SHARED) -> Workload:
    """Photographs of ten hand signs, and SqueezeNet with ImageNet weights. Raises FileNotFoundError if they do not exist."""
    folder, weights = shared.resolve() / "sign-digits", shared.resolve() / "weights" / "squeezenet1_1-imagenet-features.safetensors"
    for path in (folder, weights):
        if not path.exists():
            raise FileNotFoundError(f"{path} is not there; the digits (--data digits) need nothing but this machine")
    return Workload(
        name="signs",
        data=ImageData(path=str(folder), validation=0.2, test=0.2),
        model=ImageModel(name="squeezenet1_1", weights=str(weights)),
        image_size=64,
    )
