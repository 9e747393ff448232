"""Whole runs: they learn, repeat, resume bit for bit, and end as outcomes when they go wrong."""

import json
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import closing
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

import trainer.tasks.images.catalogue as catalogue
from tests.trainer.narrowed import image_info
from trainer.cache import Cache
from trainer.checkpoints import Checkpoints
from trainer.devices import matrix_formats
from trainer.loop import train
from trainer.models import Infeasible
from trainer.preparation import Expected, inspect
from trainer.protocol import Checkpoint, CheckpointSaved, EpochMetrics, Failed, Finished, ModelExported, Reuse, RunPrepared
from trainer.tasks.image_classification.config import ImageClassificationConfig
from trainer.tasks.images.config import IMAGENET_MEAN, IMAGENET_STD, ImageData, ImageModel

CPU = torch.device("cpu")
Kind = TypeVar("Kind")
Configure = Callable[..., ImageClassificationConfig]
Paint = Callable[..., Path]


def reported(config: ImageClassificationConfig, **options: Any) -> list[Any]:
    return [fact for fact in train(config, device=options.pop("device", CPU), **options) if fact.kind != "advanced"]


def one(kind: type[Kind], facts: Sequence[Any]) -> Kind:
    (found,) = [fact for fact in facts if isinstance(fact, kind)]
    return found


def metrics(facts: Sequence[Any]) -> dict[int, dict[str, float]]:
    return {fact.step: dict(fact.metrics) for fact in facts if isinstance(fact, EpochMetrics)}


def test_a_run_tells_its_facts_in_order_and_learns(configure: Configure) -> None:
    facts = reported(configure(epochs=4))
    assert [fact.kind for fact in facts] == ["prepared", "measured", "measured", "measured", "measured", "finished"]
    prepared, finished = one(RunPrepared, facts), one(Finished, facts)
    info = image_info(prepared.facts)
    assert info.classes == ("blue", "green", "red") and info.images == {"train": 48, "validation": 12, "test": 0}
    assert prepared.trainable == prepared.parameters > 10_000
    assert prepared.environment.keys() >= {"torch", "torchvision", "python", "device", "threads"}
    packages = ("torch", "torchvision", "numpy", "pillow", "safetensors", "thawline")
    installed = {name: version(name) for name in packages}
    assert {name: prepared.environment[name].partition("+")[0] for name in packages} == {
        name: number.partition("+")[0] for name, number in installed.items()
    }, "so that the environment can be built again"
    assert finished.metrics["accuracy"] > 0.8, "chance is one third"
    assert finished.metrics == metrics(facts)[4] and finished.metrics["train_loss"] < 0.7
    assert sum(map(sum, finished.report["confusion_matrix"])) == 12 and finished.report["per_class_recall"].keys() == {
        "blue",
        "green",
        "red",
    }
    assert finished.train_seconds > 0 and finished.peak_memory > 0


def test_every_batch_is_told(configure: Configure) -> None:
    batches = [(fact.epoch, fact.batch, fact.batches) for fact in train(configure(), device=CPU) if fact.kind == "advanced"]
    assert batches == [(epoch, batch, 6) for epoch in (1, 2) for batch in range(1, 7)]


def test_a_long_validation_gives_signs_of_life(paint: Paint, configure: Configure) -> None:
    config = configure(data=ImageData(path=str(paint()), validation=0.8), epochs=1, batch_size=2)  # 48 images, 32 at a time
    advanced = [(fact.batch, fact.batches) for fact in train(config, device=CPU) if fact.kind == "advanced"]
    assert advanced == [*((batch, 6) for batch in range(1, 7)), (6, 6)]


def test_a_last_batch_of_one_image_is_left_out_and_a_larger_one_is_not(configure: Configure) -> None:
    def batches(size: int) -> int:
        return max(fact.batches for fact in train(configure(batch_size=size, epochs=1), device=CPU) if fact.kind == "advanced")

    assert (batches(47), batches(46), batches(48), batches(1)) == (1, 2, 1, 48)


def test_equal_configs_give_equal_results_and_another_seed_gives_others(configure: Configure) -> None:
    config = configure(dropout=0.3, augmentation="trivial_augment")
    first = reported(config)
    torch.manual_seed(77)  # whatever ran before has no say
    again, other = reported(config), reported(configure(dropout=0.3, augmentation="trivial_augment", seed=4))
    assert metrics(again) == metrics(first) != metrics(other)
    assert one(Finished, again).report == one(Finished, first).report


def test_another_order_of_the_images_gives_other_results(configure: Configure) -> None:
    first, other = (metrics(reported(configure(order_seed=seed, epochs=1))) for seed in (0, 1))
    assert first != other
    assert metrics(reported(configure(order_seed=0, seed=4, epochs=1))) != first, "the seed decides the initial values"


def test_each_epoch_tells_its_pace(configure: Configure) -> None:
    facts = reported(configure(epochs=3))
    paces = [fact.pace for fact in facts if isinstance(fact, EpochMetrics) and fact.pace is not None]
    reuse = one(RunPrepared, facts).reuse
    assert len(paces) == 3 and reuse is not None and reuse.model_copy(update={"pixels": "decoded"}) == Reuse(pixels="decoded")
    for pace in paces:
        assert pace.samples_per_second > 0 and pace.memory > 10_000_000 and pace.saved_seconds == 0
        assert pace.utilization is not None and 0 < pace.utilization <= 1
        assert min(pace.seconds[activity] for activity in ("data", "forward", "backward", "measure")) > 0
    seconds = [sum(pace.seconds.values()) for pace in paces]
    assert seconds == sorted(seconds) and seconds[2] <= one(Finished, facts).train_seconds + paces[2].seconds["data"]
    assert paces[0].seconds_left > paces[2].seconds_left == 0
    assert paces[0].seconds_left < 60, "three epochs of 48 small images"


def test_auto_is_the_precision_that_suits_the_device_and_is_told(configure: Configure) -> None:
    suits = "bfloat16" if torch.cpu._is_amx_tile_supported() else "float32"
    chosen, named = reported(configure(precision="auto")), reported(configure(precision=suits))
    assert one(RunPrepared, chosen).environment["precision"] == suits
    assert metrics(chosen) == metrics(named)


def test_a_run_on_auto_goes_on_from_the_checkpoint_of_the_precision_that_it_means(configure: Configure, tmp_path: Path) -> None:
    suits = "bfloat16" if torch.cpu._is_amx_tile_supported() else "float32"
    saved = stopped_after(1, configure(precision=suits), tmp_path)
    rest = reported(configure(precision="auto"), checkpoints=Checkpoints(resume=[saved]))
    assert [fact.step for fact in rest if isinstance(fact, EpochMetrics)] == [2]


@pytest.mark.parametrize("frozen", [0, 3])
def test_single_images_that_leave_batch_normalisation_nothing_are_refused_before_training(configure: Configure, frozen: int) -> None:
    config = configure(model=ImageModel(name="mobilenet_v3_small"), image_size=32, batch_size=1, frozen_layers=frozen)
    (failed,) = reported(config)
    sentence = "batch_size 1 is too small for mobilenet_v3_small at 32 pixels"
    assert failed.reason == "infeasible" and failed.detail.startswith(sentence)
    with pytest.raises(Infeasible, match=sentence):
        inspect(config, CPU, Cache.none())


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"frozen_layers": 5}, "small_cnn has 4 stages to freeze, not 5"),
        ({"model": ImageModel(name="vit_b_16"), "image_size": 40}, "vit_b_16 needs images of a multiple of 16 pixels, not 40"),
        ({"model": ImageModel(name="squeezenet1_1"), "image_size": 8}, "squeezenet1_1 needs images of at least"),
    ],
)
def test_hyperparameters_that_the_model_cannot_take_are_infeasible(configure: Configure, changes: dict[str, Any], sentence: str) -> None:
    (failed,) = reported(configure(**changes))
    assert failed.reason == "infeasible" and failed.detail.startswith(sentence)


def test_a_check_passes_when_one_of_the_batch_sizes_can_be_trained(configure: Configure) -> None:
    config = configure(model=ImageModel(name="mobilenet_v2"), image_size=32)
    assert image_info(inspect(config, CPU, Cache.none(), (1, 16, 4_000)).facts).images["train"] == 48
    with pytest.raises(Infeasible, match="a batch of 4000 is larger than the 48 training images"):
        inspect(config, CPU, Cache.none(), (1, 4_000))


def test_single_images_are_trained_on_where_nothing_is_normalised_over_them(configure: Configure) -> None:
    stages = len(catalogue.load("mobilenet_v3_small").stages)
    frozen = configure(model=ImageModel(name="mobilenet_v3_small"), image_size=32, batch_size=1, epochs=1, frozen_layers=stages)
    assert one(Finished, reported(frozen)).step == 1


RESUMED: tuple[dict[str, Any], ...] = (
    {"optimizer": "sgd", "momentum": 0.9, "schedule": "cosine", "warmup_fraction": 0.3, "augmentation": "flip", "lr": 0.05},
    {"optimizer": "adam", "schedule": "one_cycle", "augmentation": "crop", "dropout": 0.5, "weight_decay": 0.01},
    {"optimizer": "adamw", "schedule": "step", "lr_step_epochs": 1, "augmentation": "trivial_augment", "augmentation_views": 3},
    {"optimizer": "rmsprop", "momentum": 0.5, "label_smoothing": 0.1, "frozen_layers": 2, "dropout": 0.2},
    {"optimizer": "adamw", "precision": "bfloat16", "dropout": 0.2, "augmentation": "flip"},
    {"optimizer": "sgd", "class_weights": "balanced", "sampling": "balanced"},
)  # fmt: skip


@pytest.mark.parametrize("values", RESUMED, ids=[f"{values['optimizer']}-{number}" for number, values in enumerate(RESUMED)])
def test_a_run_that_is_stopped_and_resumed_equals_the_uninterrupted_one_bit_for_bit(
    configure: Configure, tmp_path: Path, values: dict[str, Any]
) -> None:
    config = configure(epochs=4, **values)
    whole = reported(config, model_file=tmp_path / "whole.safetensors")
    saved = stopped_after(2, config, tmp_path)
    torch.manual_seed(123)
    torch.rand(7)
    rest = reported(config, checkpoints=Checkpoints(resume=[saved]), model_file=tmp_path / "resumed.safetensors")
    assert metrics(rest) == {step: values for step, values in metrics(whole).items() if step > 2}
    assert one(Finished, rest).metrics == one(Finished, whole).metrics
    assert one(Finished, rest).report == one(Finished, whole).report
    tensors, resumed = load_file(tmp_path / "whole.safetensors"), load_file(tmp_path / "resumed.safetensors")
    assert tensors.keys() == resumed.keys() and all(torch.equal(tensors[name], resumed[name]) for name in tensors)


def stopped_after(step: int, config: ImageClassificationConfig, folder: Path) -> Checkpoint:
    """Train, stop in the middle of the epoch after, and give the checkpoint of the last whole one."""
    checkpoints = Checkpoints(folder / "checkpoints", seconds=3_600)
    with closing(train(config, device=CPU, checkpoints=checkpoints)) as run:
        for fact in run:
            if fact.kind == "advanced" and (fact.epoch, fact.batch) == (step + 1, 2):
                break
    saved = checkpoints.write()
    assert saved is not None and saved.step == step
    return saved


def test_a_run_that_is_resumed_after_its_last_epoch_finishes_as_it_did(configure: Configure, tmp_path: Path) -> None:
    config, checkpoints = configure(), Checkpoints(tmp_path / "checkpoints", seconds=3_600)
    whole = reported(config, checkpoints=checkpoints)
    saved = checkpoints.write()
    assert saved is not None
    again = reported(config, checkpoints=Checkpoints(resume=[saved]))
    assert [fact.kind for fact in again] == ["prepared", "finished"]
    assert one(Finished, again).metrics == one(Finished, whole).metrics


def test_a_checkpoint_of_another_config_is_not_used(configure: Configure, tmp_path: Path) -> None:
    saved = stopped_after(1, configure(), tmp_path)
    facts = reported(configure(lr=0.004), checkpoints=Checkpoints(resume=[saved]))
    assert list(metrics(facts)) == [1, 2]


def test_checkpoints_are_told_when_they_are_due_but_not_after_the_last_epoch(configure: Configure, tmp_path: Path) -> None:
    facts = reported(configure(epochs=3), checkpoints=Checkpoints(tmp_path / "checkpoints", seconds=0))
    assert [fact.checkpoint.step for fact in facts if isinstance(fact, CheckpointSaved)] == [1, 2]
    assert not [
        fact for fact in reported(configure(), checkpoints=Checkpoints(tmp_path / "b", seconds=3_600)) if isinstance(fact, CheckpointSaved)
    ]


def test_frozen_stages_stay_as_they_were_with_their_statistics(configure: Configure, tmp_path: Path) -> None:
    one(ModelExported, reported(configure(epochs=1), model_file=tmp_path / "first.safetensors"))
    config = configure(frozen_layers=2, epochs=1, model=ImageModel(name="small_cnn", weights=str(tmp_path / "first.safetensors")))
    facts = reported(config, model_file=tmp_path / "tuned.safetensors")
    before, after = load_file(tmp_path / "first.safetensors"), load_file(tmp_path / "tuned.safetensors")
    unchanged = {name for name in before if torch.equal(before[name], after[name])}
    frozen = {name for name in before if name.startswith(("stem.", "blocks.0."))}
    assert unchanged == frozen and any(name.endswith("running_mean") for name in frozen)
    assert one(RunPrepared, facts).trainable < one(RunPrepared, facts).parameters
    assert one(RunPrepared, facts).facts.weights_sha256 is not None


def test_the_exported_model_says_what_it_is(configure: Configure, tmp_path: Path) -> None:
    config, path = configure(epochs=1), tmp_path / "out" / "model.safetensors"
    exported = one(ModelExported, reported(config, model_file=path))
    assert exported.path == str(path) and [file.name for file in path.parent.iterdir()] == ["model.safetensors"]
    with safe_open(path, "pt") as file:
        metadata, names = file.metadata(), set(file.keys())
    assert metadata["format"] == "thawline/1" and json.loads(metadata["classes"]) == ["blue", "green", "red"]
    written = ImageClassificationConfig.model_validate_json(metadata["config"])
    assert (written.model.mean, written.model.std) == (IMAGENET_MEAN, IMAGENET_STD), "written out, though the study left them open"
    assert written == config.model_copy(update={"model": written.model}) and written.model.name == config.model.name
    assert {"classifier.weight", "classifier.bias"} <= names


def test_label_smoothing_raises_the_training_loss_and_not_the_validation_loss(configure: Configure) -> None:
    sharp, smooth = (metrics(reported(configure(epochs=4, label_smoothing=amount)))[4] for amount in (0.0, 0.5))
    assert smooth["train_loss"] > sharp["train_loss"] + 0.2
    assert smooth["loss"] < smooth["train_loss"], "the validation loss is the plain cross entropy"


def test_the_learning_rate_of_the_last_batch_is_measured(configure: Configure) -> None:
    found = metrics(reported(configure(epochs=2, lr=0.01, schedule="step", lr_step_epochs=1, lr_gamma=0.1)))
    assert found[1]["lr"] == 0.01 and found[2]["lr"] == pytest.approx(0.001)


def test_bfloat16_learns_and_differs_from_float32(configure: Configure) -> None:
    half, single = (reported(configure(epochs=4, precision=precision)) for precision in ("bfloat16", "float32"))
    assert one(Finished, half).metrics["accuracy"] > 0.8
    assert metrics(half) != metrics(single)


def test_stored_views_repeat_and_fresh_ones_do_not(configure: Configure) -> None:
    def losses(views: int) -> dict[int, dict[str, float]]:
        return metrics(reported(configure(augmentation="crop", augmentation_views=views, epochs=3)))

    assert losses(3) == losses(0) and losses(1) != losses(0)
    assert losses(1)[1] == losses(0)[1], "the first view is the same"


@pytest.mark.parametrize("epochs", [1, 3])
def test_a_loss_that_is_not_finite_is_told_as_diverged_with_its_place(configure: Configure, epochs: int) -> None:
    facts = reported(configure(optimizer="sgd", lr=100, weight_decay=10, batch_size=2, epochs=epochs))
    failed = one(Failed, facts)
    assert failed.reason == "diverged" and failed.step == 0 and facts[-1] is failed
    assert "the training loss was" in failed.detail and "of epoch 1, at a learning rate of 100" in failed.detail


def test_parameters_that_only_the_last_step_broke_are_told_as_diverged(configure: Configure) -> None:
    facts = reported(configure(optimizer="sgd", lr=30, weight_decay=10, momentum=0, batch_size=3, frozen_layers=4, epochs=1))
    failed = one(Failed, facts)
    assert (failed.reason, failed.detail) == ("diverged", "parameters were not finite after epoch 1, at a learning rate of 30")


def test_unfit_data_is_told_as_bad_data(configure: Configure, paint: Paint) -> None:
    root = paint(name="broken")
    (root / "red" / "3.png").write_bytes(b"broken")
    (failed,) = reported(configure(data=ImageData(path=str(root))))
    assert failed.reason == "bad_data" and "red/3.png" in failed.detail


def test_a_batch_larger_than_the_training_set_is_infeasible(configure: Configure) -> None:
    failed = one(Failed, reported(configure(batch_size=49)))
    sentence = "a batch of 49 is larger than the 48 training images; lower batch_size"
    assert (failed.reason, failed.detail) == ("infeasible", sentence)
    with pytest.raises(Infeasible, match=sentence):
        inspect(configure(batch_size=49), CPU, Cache.none())


def test_unfit_weights_are_told_as_bad_data(configure: Configure, tmp_path: Path) -> None:
    (tmp_path / "broken.safetensors").write_bytes(b"broken")
    model = ImageModel(name="small_cnn", weights=str(tmp_path / "broken.safetensors"))
    failed = one(Failed, reported(configure(model=model)))
    assert failed.reason == "bad_data" and "broken.safetensors" in failed.detail


@pytest.mark.parametrize("other", ["fingerprint", "weights_sha256", "split"])
def test_other_data_or_weights_than_expected_are_refused(configure: Configure, other: str) -> None:
    info = inspect(configure(), CPU, Cache.none()).facts.model_copy(update={other: "0" * 64})
    failed = one(Failed, reported(configure(), expected=Expected(info)))
    assert failed.reason == "bad_data" and re.search("differ from the expected ones|differently than expected", failed.detail)


def test_the_expected_data_is_trained_on(configure: Configure) -> None:
    config = configure(epochs=1)
    expected = Expected(inspect(config, CPU, Cache.none()).facts)
    assert one(Finished, reported(config, expected=expected)).step == 1


EXHAUSTED = """
import re, resource, sys
from pathlib import Path
import torch
from trainer.tasks.image_classification.config import ImageClassificationConfig
from trainer.loop import train
torch.set_num_threads(1)
small = ImageClassificationConfig.model_validate_json(sys.argv[1])
large = small.model_copy(update={"image_size": 512, "batch_size": 48})
used = int(re.search(r"VmSize:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) * 1024
resource.setrlimit(resource.RLIMIT_AS, (used + 500_000_000, resource.RLIM_INFINITY))
for config in (large, small):
    *_, last = train(config, device=torch.device("cpu"))
    sys.stdout.write(last.model_dump_json() + "\\n")
"""


def test_a_run_that_exhausts_the_memory_is_told_so_and_the_next_one_trains(configure: Configure) -> None:
    command = [sys.executable, "-c", EXHAUSTED, configure(epochs=1).model_dump_json()]
    done = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=600, check=True)
    first, second = map(json.loads, done.stdout.splitlines())
    assert (first["kind"], first["reason"]) == ("failed", "out_of_memory"), first
    assert re.fullmatch(r"[\d.]+ [MG]B could not be allocated on the host", first["detail"])
    assert second["kind"] == "finished"


@pytest.mark.gpu
def test_a_gpu_learns_what_a_cpu_learns(configure: Configure) -> None:
    config = configure(epochs=4, augmentation="crop")
    cpu, gpu = one(Finished, reported(config)), one(Finished, reported(config, device=torch.device("cuda:0")))
    assert abs(gpu.metrics["accuracy"] - cpu.metrics["accuracy"]) < 0.2 and gpu.metrics["accuracy"] > 0.8
    assert gpu.peak_memory < cpu.peak_memory


@pytest.mark.gpu
def test_on_a_gpu_auto_is_bfloat16_float32_is_no_tf32_and_the_time_adds_up(configure: Configure) -> None:
    gpu = torch.device("cuda:0")
    chosen = reported(configure(precision="auto", epochs=3), device=gpu)
    found = matrix_formats(gpu)
    suits = next((one for one in ("bfloat16", "float16") if one in found), "float32")
    environment = one(RunPrepared, chosen).environment
    assert environment["precision"] == suits and environment["tf32"] == ("on" if "tf32" in found else "off")
    single = one(RunPrepared, reported(configure(precision="float32", epochs=1), device=gpu)).environment
    assert (single["precision"], single["tf32"]) == ("float32", "off")
    assert (torch.backends.cuda.matmul.fp32_precision, torch.backends.cudnn.conv.fp32_precision) == ("ieee", "ieee")  # type: ignore[attr-defined]
    paces = [fact.pace for fact in chosen if isinstance(fact, EpochMetrics) and fact.pace is not None]
    steps = [paces[2].seconds[activity] - paces[0].seconds[activity] for activity in ("data", "forward", "backward", "measure")]
    assert min(steps) > 0 and sum(steps) <= one(Finished, chosen).train_seconds


@pytest.mark.gpu
def test_a_run_that_exhausts_the_gpu_is_told_so_and_gives_the_memory_back(configure: Configure) -> None:
    gpu = torch.device("cuda:0")
    torch.cuda.set_per_process_memory_fraction(0.02, gpu)
    failed = one(Failed, reported(configure(image_size=2048, batch_size=48), device=gpu))
    assert failed.reason == "out_of_memory" and "could not be allocated on the GPU" in failed.detail
    assert one(Finished, reported(configure(epochs=1), device=gpu)).step == 1
    torch.cuda.set_per_process_memory_fraction(1.0, gpu)
