"""Scoring on the test images: told image by image, equal on every path, and without a trace when it is not asked for."""

import base64
import json
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from shutil import copyfile
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor

from trainer.cache import Cache
from trainer.checkpoints import Checkpoints
from trainer.data.images import examples
from trainer.data.images.dataset import find
from trainer.data.images.examples import Resident, load
from trainer.heads import HeadEnsemble
from trainer.learners import Member
from trainer.loop import TrainingLoop, train
from trainer.preparation import Expected, PreparedRun, prepare
from trainer.protocol import CheckpointSaved, EpochMetrics, Failed, Finished, Scores
from trainer.stopwatch import Stopwatch
from trainer.targets.classes import target as class_target
from trainer.targets.classes.config import ClassTestReport
from trainer.tasks.base import Measurement
from trainer.tasks.image_classification.config import ImageClassificationConfig
from trainer.tasks.image_classification.spec import SPEC
from trainer.tasks.images.config import ImageData, ImageModel
from trainer.tasks.images.networks.factory import build

CPU = torch.device("cpu")
MUCH = 1e9  # epochs that a study has still to come: everything is worth storing
Configure = Callable[..., ImageClassificationConfig]
Paint = Callable[..., Path]

pytestmark = pytest.mark.usefixtures("nothing_decoded")


@pytest.fixture
def tested(paint: Paint, configure: Configure, tmp_path: Path) -> Configure:
    """Makes the config of a run on fixed weights that has three test images of each of three colours, two of them in two files."""
    root = paint(count=12)
    share = ImageData(path=str(root), validation=0.25, test=0.25)
    twice = [content for content in find(share).contents if content.part == "test"][::5]
    for content in twice:
        copyfile(content.files[0].file, content.files[0].file.with_name("twice.png"))
    file = tmp_path / "weights.pt"
    torch.save(build(configure(seed=5, data=share), 3).network.state_dict(), file)

    def make(**changes: Any) -> ImageClassificationConfig:
        return configure(**{"data": share, "model": ImageModel(name="small_cnn", weights=str(file)), **changes})

    return make


def task_of(config: ImageClassificationConfig) -> PreparedRun:
    return prepare(config, CPU, Expected(), Cache.none())


def alone(config: ImageClassificationConfig, **options: Any) -> Finished:
    facts = train(config, **{"device": CPU, "score_test": True, **options})
    (finished,) = [fact for fact in facts if isinstance(fact, Finished)]
    return finished


def together(members: Sequence[Member], **options: Any) -> TrainingLoop:
    return TrainingLoop(members, HeadEnsemble.build, **{"device": CPU, **options})


def in_company(configs: Iterable[ImageClassificationConfig], cache: Cache | None = None) -> list[Finished]:
    facts = together([Member(config=config, score_test=True) for config in configs], cache=cache).events()
    return sorted((fact for fact in facts if isinstance(fact, Finished)), key=lambda fact: fact.lane)


def reported(text: str | None, kind: str) -> np.ndarray[Any, Any]:
    assert text is not None
    return np.frombuffer(base64.b64decode(text, validate=True), kind)


def losses_in(one: Measurement) -> str | None:
    report = one.report()
    assert isinstance(report, ClassTestReport)
    return report.losses


def outcome(finished: Finished) -> dict[str, Any]:
    """What was told of training and validation."""
    return finished.model_dump(exclude={"test", "train_seconds", "peak_memory", "lane"})


def agree(one: Scores | None, other: Scores | None) -> bool:
    """But for rounding."""
    assert one is not None and other is not None
    losses, others = (reported(scores.report["losses"], "<f2") for scores in (one, other))
    return (
        one.metrics == pytest.approx(dict(other.metrics), rel=1e-4)
        and {**one.report, "losses": None} == {**other.report, "losses": None}
        and np.allclose(losses, others, rtol=2e-3, atol=1e-4)
    )


@contextmanager
def watched(monkeypatch: pytest.MonkeyPatch) -> Iterator[set[int]]:
    """The rows of all images that are handed out meanwhile."""
    seen = set[int]()
    with monkeypatch.context() as patch:
        for images in (examples.Resident, examples.Streamed):

            def take(self: Any, rows: Tensor, taken: Callable[[Any, Tensor], Tensor] = images.take) -> Tensor:
                seen.update(rows.tolist())
                return taken(self, rows)

            patch.setattr(images, "take", take)
        yield seen


def test_scores_are_those_of_the_exported_model_image_by_image(tested: Configure, tmp_path: Path) -> None:
    config, file = tested(epochs=3), tmp_path / "model.safetensors"
    found = alone(config, model_file=file).test
    assert found is not None
    task, contents = task_of(config), find(config.data).contents
    task.model.network.load_state_dict(load_file(file))
    task.model.eval()
    rows = sorted(
        (row for row, one in enumerate(contents) for _ in one.files if one.part == "test"), key=lambda row: (contents[row].label, row)
    )
    labels = torch.tensor([contents[row].label for row in rows])
    assert len(rows) == 11 and len(set(rows)) == 9, "what lies in two files counts twice"
    with torch.no_grad():
        logits = task.model(task.examples.take(torch.tensor(rows), None))
    losses = F.cross_entropy(logits, labels, reduction="none")
    assert reported(found.report["predicted"], "<u2").tolist() == logits.argmax(1).tolist()
    assert reported(found.report["losses"], "<f2") == pytest.approx(losses.numpy(), rel=2e-3, abs=1e-4)
    assert found.metrics.keys() == SPEC.metrics.keys() and found.metrics["loss"] == pytest.approx(float(losses.mean()), rel=1e-4)
    assert found.metrics["accuracy"] == pytest.approx(float((logits.argmax(1) == labels).double().mean()))
    matrix = np.zeros((3, 3), int)
    np.add.at(matrix, (labels.numpy(), logits.argmax(1).numpy()), 1)
    assert found.report["confusion_matrix"] == matrix.tolist()
    assert found.report["per_class_recall"] == pytest.approx(
        {name: matrix[at, at] / matrix[at].sum() for at, name in enumerate(("blue", "green", "red"))}
    )


SORTS: tuple[dict[str, Any], ...] = (
    {},
    {"frozen_layers": 2, "augmentation": "flip", "dropout": 0.3},
    {"frozen_layers": 4, "dropout": 0.3},
    {"precision": "bfloat16"},
)  # fmt: skip


@pytest.mark.parametrize("changes", SORTS, ids=str)
def test_scoring_changes_nothing_of_training_and_validation(tested: Configure, tmp_path: Path, changes: dict[str, Any]) -> None:
    config = tested(**changes)
    silent, scored = (
        [fact for fact in train(config, device=CPU, cache=Cache(tmp_path / name, 10**9), depths=(2, 2), score_test=name == "scored")]
        for name in ("silent", "scored")
    )
    metrics = [[fact.metrics for fact in facts if isinstance(fact, EpochMetrics)] for facts in (silent, scored)]
    assert metrics[0] == metrics[1] and outcome(silent[-1]) == outcome(scored[-1])  # type: ignore[arg-type]
    assert silent[-1].test is None and scored[-1].test is not None  # type: ignore[union-attr]


def test_scoring_changes_nothing_of_lanes_either(tested: Configure) -> None:
    configs = [tested(frozen_layers=4, seed=seed, dropout=0.2, epochs=2 + seed % 2) for seed in range(3)]
    silent, scored = (list(together([Member(config=config, score_test=asked) for config in configs]).events()) for asked in (False, True))
    for kind in (EpochMetrics, Finished):
        one, other = ([fact for fact in facts if isinstance(fact, kind)] for facts in (silent, scored))
        assert [(fact.lane, fact.metrics) for fact in one] == [(fact.lane, fact.metrics) for fact in other]


@pytest.mark.parametrize("path", ["direct", "stored", "streamed", "lanes"])
def test_no_test_image_is_handed_out_unless_scores_are_asked_for(
    tested: Configure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    config = tested(frozen_layers={"direct": 0, "stored": 2, "streamed": 0, "lanes": 4}[path], augmentation="flip")
    test = {row for row, content in enumerate(find(config.data).contents) if content.part == "test"}
    if path == "streamed":
        monkeypatch.setattr(examples, "HEADROOM", 2**60)
    for asked in (False, True):
        cache = Cache(tmp_path / f"{path}-{asked}", 10**9) if path == "stored" else Cache.none()
        with watched(monkeypatch) as seen:
            if path == "lanes":
                list(together([Member(config=config, score_test=asked)]).events())
            else:
                list(train(config, device=CPU, cache=cache, demand={2: MUCH}, score_test=asked))
        assert len(seen) > 20 and seen & test == (test if asked else set())


def test_what_the_test_images_show_decides_nothing_but_the_scores(tested: Configure) -> None:
    config = tested(epochs=2)
    before = alone(config)
    kept = load(find(config.data), config.image_size, CPU)
    assert isinstance(kept, Resident)
    rows = task_of(config).test
    kept.pixels[rows] = 255 - kept.pixels[rows]  # the next run finds these decoded
    after = alone(config)
    assert outcome(after) == outcome(before) and after.test != before.test


def test_stored_streamed_and_computed_images_are_scored_alike(tested: Configure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config, cache = tested(frozen_layers=3, augmentation="flip"), Cache(tmp_path / "cache", 10**9)
    computed = alone(config, depths=(0, 0))
    first, again = (alone(config, cache=cache, depths=(3, 3)) for _ in range(2))
    assert first.test == again.test and agree(first.test, computed.test)
    with watched(monkeypatch) as seen:
        alone(config, cache=cache, depths=(3, 3))
    assert not seen, "the output of the frozen stages is stored, for the test images too"
    examples._kept.clear()
    monkeypatch.setattr(examples, "HEADROOM", 2**60)
    assert alone(config, depths=(0, 0)).test == computed.test


def test_test_images_for_whose_outputs_there_is_no_room_are_computed(tested: Configure, tmp_path: Path) -> None:
    def entries(folder: Path) -> dict[str, int]:
        return {str(file.relative_to(folder)): file.stat().st_size for file in folder.rglob("*.tensor")}

    config, ample, tight = tested(frozen_layers=3), tmp_path / "ample", tmp_path / "tight"
    unscored = alone(config, cache=Cache(ample, 10**9), depths=(3, 3), score_test=False)
    scored = alone(config, cache=Cache(tight, sum(entries(ample).values()) + 1_000), depths=(3, 3))
    assert entries(tight) == entries(ample), "nothing that training reads made room"
    assert outcome(scored) == outcome(unscored) and agree(scored.test, alone(config, depths=(0, 0)).test)


def test_a_lane_scores_what_it_scores_alone_and_as_a_module(tested: Configure, tmp_path: Path) -> None:
    changes: tuple[dict[str, Any], ...] = (
        {"lr": 0.03},
        {"lr": 1e-3, "epochs": 1},
        {"optimizer": "sgd", "lr": 0.1, "epochs": 3},
        {"label_smoothing": 0.1},
    )
    configs = [tested(frozen_layers=4, seed=seed, **own) for seed, own in enumerate(changes)]
    together = in_company(configs)
    stored = in_company(configs, Cache(tmp_path / "cache", 10**9))
    for config, lane, other in zip(configs, together, stored, strict=True):
        (single,) = in_company([config])
        assert agree(lane.test, single.test) and agree(lane.test, alone(config).test) and agree(lane.test, other.test)
    assert len({lane.test.report["losses"] for lane in together if lane.test}) == 4, "each lane its own"


def test_only_lanes_that_reach_their_end_and_shall_be_scored_are(tested: Configure, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = (True, False, True, True)
    runs = [Member(config=tested(frozen_layers=4, seed=seed, epochs=2), score_test=score) for seed, score in enumerate(asked)]
    shared, found = together(runs), dict[int, Scores | None]()
    with watched(monkeypatch):
        for fact in shared.events():
            if isinstance(fact, EpochMetrics) and (fact.step, fact.lane) in ((1, 2), (2, 3)):
                shared.end(fact.lane)  # as pruned ones are; the last one after its last epoch
            if isinstance(fact, Finished):
                found[fact.lane] = fact.test
    assert found.keys() == {0, 1} and found[0] is not None and found[1] is None


def test_where_no_lane_is_left_to_score_no_test_image_is_read(tested: Configure, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tested(frozen_layers=4, epochs=1)
    shared = together([Member(config=config, score_test=True)])
    with watched(monkeypatch) as seen:
        for fact in shared.events():
            if isinstance(fact, EpochMetrics):
                shared.end(0)
    assert seen and not seen & set(task_of(config).test.tolist())


@pytest.mark.parametrize("frozen", [0, 4])
def test_a_run_that_is_resumed_after_its_last_epoch_is_scored_too(tested: Configure, tmp_path: Path, frozen: int) -> None:
    config = tested(frozen_layers=frozen)

    def run(kept: Checkpoints) -> Finished:
        if frozen:
            facts: Iterable[Any] = together([Member(config=config, checkpoints=kept, score_test=True)]).events()
        else:
            facts = train(config, device=CPU, checkpoints=kept, score_test=True)
        reported = [fact for fact in facts if not isinstance(fact, CheckpointSaved)]
        return reported[-1]  # type: ignore[no-any-return]

    first = Checkpoints(tmp_path / "first", seconds=3_600)
    whole, saved = run(first), first.write()
    assert saved is not None and saved.step == config.epochs
    again = run(Checkpoints(resume=(saved,)))
    assert again.test == whole.test is not None and outcome(again) == outcome(whole)


def test_scoring_is_measuring_and_no_part_of_the_training_time(tested: Configure) -> None:
    spent = dict[bool, float]()
    for frozen in (0, 4):
        config = tested(epochs=1, frozen_layers=frozen)
        for asked in (False, True):
            watch = Stopwatch()
            if frozen:
                facts: Iterator[Any] = together([Member(config=config, score_test=asked)], stopwatch=watch).events()
            else:
                facts = train(config, device=CPU, score_test=asked, stopwatch=watch)
            before: dict[Any, float] = {}
            for fact in facts:
                if isinstance(fact, EpochMetrics):
                    before = {**watch.seconds}
            grown = {name: seconds - before[name] for name, seconds in watch.seconds.items()}
            spent[asked] = grown.pop("measure")
            assert not any(grown.values())
        assert spent[False] == 0 < spent[True]


def test_long_scoring_gives_signs_of_life_and_can_be_stopped(tested: Configure, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tested(epochs=1, batch_size=8)
    monkeypatch.setattr("trainer.learners.ModelLearner.smallest_batch", 4)
    facts = [fact.kind for fact in train(config, device=CPU, score_test=True)]
    assert facts[-3:] == ["measured", "advanced", "finished"], "eleven images, eight at a time"


@pytest.mark.parametrize("frozen", [0, 4])
def test_without_test_images_there_is_nothing_to_score_and_nothing_is_trained(configure: Configure, tmp_path: Path, frozen: int) -> None:
    file = tmp_path / "weights.pt"
    torch.save(build(configure(seed=5), 3).network.state_dict(), file)
    config = configure(frozen_layers=frozen, model=ImageModel(name="small_cnn", weights=str(file)))
    if frozen:
        runs = [Member(config=config), Member(config=config, score_test=True)]
        facts = [fact for fact in together(runs).events() if fact.kind != "advanced"]
        assert {fact.kind for fact in facts if getattr(fact, "lane", 0) == 0} == {"prepared", "measured", "finished"}
        facts = [fact for fact in facts if getattr(fact, "lane", 0) == 1]
    else:
        facts = [fact for fact in train(config, device=CPU, score_test=True) if fact.kind != "advanced"]
    (failed,) = facts
    assert isinstance(failed, Failed) and failed.reason == "bad_data" and "data.test is 0; set it above 0" in failed.detail


def test_of_too_many_images_only_the_sums_are_told(tested: Configure, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = alone(tested(epochs=1)).test
    monkeypatch.setattr(class_target, "MOST_SCORED", 10)
    sums = alone(tested(epochs=1)).test
    assert whole is not None and sums is not None
    assert sums.report.keys() == whole.report.keys() - {"predicted", "losses", "scores"}
    assert whole.metrics == sums.metrics


def test_a_loss_beyond_what_is_told_exactly_stays_finite(tested: Configure) -> None:
    task = task_of(tested())
    images = len(task.test)
    losses = torch.full((2, images), 3.0)
    losses[0, 2], losses[1, 0] = 1e9, torch.nan
    tallies = torch.stack((torch.zeros(2, images), losses, torch.ones(2, images), torch.ones(2, images)), -1)
    high, undefined = task.task.measure(tallies, task.targets[task.test], task.info, examples=True)
    found = reported(losses_in(high), "<f2")
    assert np.isfinite(found).all() and found.max() == 65_504
    assert high.metrics["loss"] == pytest.approx((1e9 + 3 * (images - 1)) / images)
    assert np.isnan(reported(losses_in(undefined), "<f2")).sum() == 1 and np.isnan(undefined.metrics["loss"])


def test_the_process_scores_the_runs_that_it_is_told_to_score(tested: Configure) -> None:
    configs = [tested(frozen_layers=frozen, seed=seed, epochs=1).model_dump(mode="json") for seed, frozen in enumerate((0, 4, 4))]
    single = {"order": "run", "config": configs[0], "score_test": True}
    lanes = {"order": "lanes", "runs": [{"config": configs[1]}, {"config": configs[2], "score_test": True}]}
    command, pipe = [sys.executable, "-m", "trainer", "--threads", "1", "--device", "cpu"], subprocess.PIPE
    with subprocess.Popen(command, cwd=Path(__file__).parents[2], stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdin is not None and process.stdout is not None
        scored = list[tuple[int, bool]]()
        for order in (single, lanes, None):
            for line in map(json.loads, process.stdout):
                if line["kind"] == "finished":
                    scored.append((line["lane"], line["test"] is not None))
                if line["kind"] == "ready":
                    break
            process.stdin.write(json.dumps(order) + "\n" if order else "")
            process.stdin.flush()
        process.stdin.close()
    assert scored == [(0, True), (0, False), (1, True)]


@pytest.mark.gpu
def test_a_gpu_scores_alike_alone_in_lanes_and_from_stored_outputs(tested: Configure, tmp_path: Path) -> None:
    gpu, config = torch.device("cuda:0"), tested(frozen_layers=4)
    shared = together([Member(config=config, score_test=True), Member(config=tested(frozen_layers=4, seed=9))], device=gpu)
    (lane,) = [fact.test for fact in shared.events() if isinstance(fact, Finished) and fact.lane == 0]
    stored = alone(config, device=gpu, cache=Cache(tmp_path / "cache", 10**9), depths=(4, 4)).test
    computed = alone(config, device=gpu, depths=(0, 0)).test
    for found in (lane, stored):
        assert found is not None and computed is not None
        assert found.metrics["loss"] == pytest.approx(computed.metrics["loss"], rel=1e-3)
        assert np.allclose(reported(found.report["losses"], "<f2"), reported(computed.report["losses"], "<f2"), rtol=1e-2, atol=1e-3)
