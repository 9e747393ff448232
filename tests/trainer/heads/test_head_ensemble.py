"""A pass of many runs: each is told what it would be told alone, and none can harm another."""

import math
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from tests.trainer.heads.conftest import same_reports
from trainer.cache import Cache
from trainer.checkpoints import Checkpoints
from trainer.features import Direct
from trainer.heads import HeadEnsemble, fits
from trainer.learners import Member, ModelLearner
from trainer.loop import TrainingLoop, train
from trainer.preparation import Expected, prepare
from trainer.protocol import CheckpointSaved, EpochMetrics, Failed, Finished, ModelExported, RunPrepared
from trainer.scoring import evaluate
from trainer.stopwatch import Stopwatch
from trainer.tasks.image_classification.config import ImageClassificationConfig
from trainer.tasks.images.config import ImageData, ImageModel
from trainer.tasks.images.networks.factory import build

CPU = torch.device("cpu")
Configure = Callable[..., ImageClassificationConfig]
Head = Callable[..., ImageClassificationConfig]


@pytest.fixture
def head(configure: Configure, tmp_path: Path) -> Head:
    """Makes the config of a run of the head alone, on weights that are the same each time."""
    file = tmp_path / "weights.pt"
    torch.save(build(configure(seed=5), 3).network.state_dict(), file)

    def make(**changes: Any) -> ImageClassificationConfig:
        return configure(**{"model": ImageModel(name="small_cnn", weights=str(file)), "frozen_layers": 4, **changes})

    return make


def together(members: Sequence[Member]) -> TrainingLoop:
    return TrainingLoop(members, HeadEnsemble.build, device=CPU)


def reported(
    runs: Iterable[Member | ImageClassificationConfig], ended: Callable[[TrainingLoop, Any], None] | None = None
) -> dict[int, list[Any]]:
    """What each lane is told, but Advanced; `ended` hears all facts and may end lanes."""
    members = [run if isinstance(run, Member) else Member(config=run) for run in runs]
    shared = together(members)
    found: dict[int, list[Any]] = {lane: [] for lane in range(len(members))}
    for fact in shared.events():
        if ended is not None:
            ended(shared, fact)
        if isinstance(fact, ModelExported):
            found[max(found)].append(fact)
        elif hasattr(fact, "lane"):
            found[fact.lane].append(fact)
    return found


def measured(facts: Iterable[object]) -> list[dict[str, float]]:
    return [dict(fact.metrics) for fact in facts if isinstance(fact, EpochMetrics)]


def test_each_lane_is_told_its_own_course_up_to_its_own_last_epoch(head: Head) -> None:
    configs = [head(seed=seed, epochs=epochs, lr=lr) for seed, epochs, lr in ((1, 2, 1e-2), (2, 4, 1e-3), (3, 1, 1e-2))]
    facts = reported(configs)
    for lane, config in enumerate(configs):
        kinds = [type(fact) for fact in facts[lane]]
        assert kinds == [RunPrepared, *[EpochMetrics] * config.epochs, Finished]
        prepared, last, finished = facts[lane][0], facts[lane][-2], facts[lane][-1]
        assert prepared.reuse.lanes == 3 and prepared.trainable == 64 * 3 + 3
        assert last.metrics == finished.metrics and finished.step == config.epochs and last.pace.seconds_left == 0
        assert sum(map(sum, finished.report["confusion_matrix"])) == prepared.facts.images["validation"]
        assert last.metrics["lr"] == config.lr
        assert 0 < last.pace.utilization <= 1


def test_measured_come_in_rounds_of_all_lanes_that_are_open(head: Head) -> None:
    order = list[tuple[str, int]]()
    reported(
        [head(seed=seed, epochs=epochs) for seed, epochs in ((1, 2), (2, 1), (3, 2))],
        lambda shared, fact: order.append((fact.kind, getattr(fact, "lane", -1))) if fact.kind != "advanced" else None,
    )
    rounds = [("prepared", lane) for lane in range(3)], [("measured", lane) for lane in range(3)], [("finished", 1)]
    assert order == [*rounds[0], *rounds[1], *rounds[2], ("measured", 0), ("measured", 2), ("finished", 0), ("finished", 2)]


def test_a_lane_is_what_it_is_alone_within_rounding(head: Head) -> None:
    configs = [
        head(seed=1, optimizer="sgd", lr=0.05, momentum=0.5, weight_decay=0.01),
        head(seed=2, optimizer="adam", dropout=0.3, lr=0.01, schedule="cosine"),
        head(seed=3, optimizer="adamw", weight_decay=0.1, label_smoothing=0.1, dropout=0.5),
        head(seed=4, optimizer="rmsprop", momentum=0.0, schedule="one_cycle"),
        head(seed=5, optimizer="sgd", class_weights="balanced"),
    ]
    unequal(Path(configs[0].data.path))
    together = reported(configs)
    for lane, config in enumerate(configs):
        alone = reported([config])[0]
        for found, expected in zip(measured(together[lane]), measured(alone), strict=True):
            assert found == pytest.approx(expected, rel=1e-4), config.optimizer


def test_a_lane_is_what_the_whole_network_would_be_within_rounding(head: Head) -> None:
    for changes in (
        {"optimizer": "sgd", "class_weights": "balanced", "label_smoothing": 0.1}, {"sampling": "balanced"},
        {"optimizer": "sgd", "weight_decay": 0.01}, {"label_smoothing": 0.1, "schedule": "cosine"}, {"optimizer": "rmsprop"},
        {"optimizer": "sgd", "focal_gamma": 2.0},
    ):  # fmt: skip
        data = ImageData(path=str(unequal(Path(head().data.path))))
        config = head(seed=7, epochs=3, data=data, **changes)
        whole = [fact for fact in train(config, device=CPU) if isinstance(fact, EpochMetrics)]
        for found, expected in zip(measured(reported([config])[0]), measured(whole), strict=True):
            assert found == pytest.approx(expected, rel=1e-4)


def unequal(root: Path) -> Path:
    """Of the last class, leave five images."""
    for image in sorted((root / "red").iterdir())[5:]:
        image.unlink()
    return root


def harmless(head: Head) -> list[ImageClassificationConfig]:
    kinds = ("sgd", "adam", "adamw", "rmsprop", "sgd", "adamw")
    return [head(seed=seed, epochs=4, optimizer=kind, dropout=0.2 * (seed % 3), lr=3e-3) for seed, kind in enumerate(kinds)]


@pytest.mark.parametrize("kind", ["sgd", "adam", "adamw", "rmsprop"])
def test_a_lane_that_diverges_harms_no_other(kind: str, head: Head) -> None:
    others = harmless(head)
    bad = head(seed=9, epochs=4, optimizer=kind, lr=100.0, weight_decay=10.0, momentum=0.98, dropout=0.2)
    undisturbed = reported([*others, head(seed=9, epochs=4, optimizer=kind, dropout=0.2)])
    facts = reported([*others, bad])
    if kind in ("sgd", "adamw"):  # the others divide by their gradients' size, and only jump about
        failed = facts[6][-1]
        assert isinstance(failed, Failed) and failed.reason == "diverged" and "at a learning rate of 100" in failed.detail
        assert len(measured(facts[6])) == failed.step
    for lane in range(6):
        assert [type(fact) for fact in facts[lane]] == [RunPrepared, *[EpochMetrics] * 4, Finished]
        for found, expected in zip(measured(facts[lane]), measured(undisturbed[lane]), strict=True):
            assert found == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("kind", ["measured", "advanced"])
def test_a_lane_that_is_ended_says_nothing_more_and_harms_no_other(kind: str, head: Head) -> None:
    configs = harmless(head)
    undisturbed = reported(configs)

    def ended(shared: TrainingLoop, fact: Any) -> None:
        if fact.kind == kind and (fact.step if kind == "measured" else fact.epoch) == 2:
            shared.end(3)
            shared.end(0)

    facts = reported(configs, ended)
    assert len(measured(facts[3])) == 1 and not any(isinstance(fact, Finished) for fact in facts[3])
    assert len(measured(facts[0])) == (2 if kind == "measured" else 1)
    for lane in (1, 2, 4, 5):
        for found, expected in zip(measured(facts[lane]), measured(undisturbed[lane]), strict=True):
            assert found == pytest.approx(expected, rel=1e-5)


def test_the_pass_stops_when_all_its_lanes_are_ended(head: Head) -> None:
    def ended(shared: TrainingLoop, fact: Any) -> None:
        if fact.kind == "advanced" and fact.epoch == 2:
            for lane in range(2):
                shared.end(lane)

    facts = reported([head(seed=seed, epochs=50) for seed in range(2)], ended)
    assert all(len(measured(own)) == 1 for own in facts.values())


@pytest.mark.parametrize("kind", ["sgd", "adam", "adamw", "rmsprop"])
def test_a_run_goes_on_alone_from_what_it_left_in_company(kind: str, head: Head, tmp_path: Path) -> None:
    config = head(seed=1, epochs=4, optimizer=kind, dropout=0.2)
    kept = Checkpoints(tmp_path / "lane")
    members = [Member(config=head(seed=5, epochs=4)), Member(config=config, checkpoints=kept), Member(config=head(seed=6, epochs=4))]

    def ended(shared: TrainingLoop, fact: Any) -> None:
        if fact.kind == "advanced" and fact.epoch == 3:
            shared.end(1)

    reported(members, ended)
    written = kept.write()
    assert written is not None and written.step == kept.step == 2
    facts = reported([Member(config=config, checkpoints=Checkpoints(tmp_path / "alone", resume=(written,)))])[0]
    assert [fact.step for fact in facts if isinstance(fact, EpochMetrics)] == [3, 4]
    for found, expected in zip(measured(facts), measured(reported([config])[0])[2:], strict=True):
        assert found == pytest.approx(expected, rel=1e-5)


def test_a_run_alone_that_was_interrupted_goes_on_as_if_it_never_was(head: Head, tmp_path: Path) -> None:
    config = head(seed=1, epochs=4, optimizer="adamw", dropout=0.4, schedule="cosine", weight_decay=0.1)
    whole = reported([Member(config=config, checkpoints=Checkpoints(tmp_path / "first", seconds=0))])[0]
    saved = [fact.checkpoint for fact in whole if isinstance(fact, CheckpointSaved)]
    assert [checkpoint.step for checkpoint in saved] == [1, 2, 3]
    rest = reported([Member(config=config, checkpoints=Checkpoints(tmp_path / "second", resume=tuple(saved)))])[0]
    assert measured(rest) == measured(whole)[3:]
    assert rest[-1].report == whole[-1].report and rest[-1].train_seconds > 0


def test_a_run_that_had_only_to_say_so_is_finished_from_its_last_checkpoint(head: Head, tmp_path: Path) -> None:
    config, kept = head(seed=1), Checkpoints(tmp_path / "first")
    whole = reported([Member(config=config, checkpoints=kept)])[0]
    written = kept.write()
    assert written is not None
    facts = reported([Member(config=config, checkpoints=Checkpoints(tmp_path / "second", resume=(written,)))])[0]
    assert [type(fact) for fact in facts] == [RunPrepared, Finished]
    assert facts[-1].metrics == whole[-1].metrics


def test_a_checkpoint_does_not_tell_by_which_engine_it_was_written(head: Head, tmp_path: Path) -> None:
    config, lane, module = head(seed=1, epochs=4), Checkpoints(tmp_path / "lane"), Checkpoints(tmp_path / "module")
    whole = measured(reported([config])[0])
    for events, kept in (
        (together([Member(config=config, checkpoints=lane)]).events(), lane),
        (train(config, device=CPU, checkpoints=module), module),
    ):
        for fact in events:
            if isinstance(fact, EpochMetrics) and fact.step == 2:
                break
        events.close()
        assert kept.step == 2
    from_lane, from_module = lane.write(), module.write()
    assert from_lane is not None and from_module is not None
    by_module = list(train(config, device=CPU, checkpoints=Checkpoints(tmp_path / "third", resume=(from_lane,))))
    by_lane = reported([Member(config=config, checkpoints=Checkpoints(tmp_path / "fourth", resume=(from_module,)))])[0]
    for facts in (by_module, by_lane):
        for found, expected in zip(measured(facts), whole[2:], strict=True):
            assert found == pytest.approx(expected, rel=1e-4)


def test_the_exported_model_answers_as_the_lane_did(head: Head, tmp_path: Path) -> None:
    file, config = tmp_path / "model.safetensors", head(seed=2, epochs=3, lr=0.02)
    facts = reported([Member(config=head(seed=1, epochs=3)), Member(config=config, model_file=file)])[1]
    finished, exported = facts[-2], facts[-1]
    assert isinstance(finished, Finished) and isinstance(exported, ModelExported) and exported.path == str(file)
    task = prepare(config, CPU, Expected(), Cache.none())
    task.model.network.load_state_dict(safetensors.torch.load_file(file))
    evaluation = evaluate(task, ModelLearner(task, 0, Stopwatch()), Direct(task), task.validation, None)
    while True:
        try:
            next(evaluation)
        except StopIteration as end:
            same_reports(end.value[0].report().model_dump(mode="json"), finished.report)
            break


def test_frozen_buffers_are_copied_to_the_host_once(head: Head, monkeypatch: pytest.MonkeyPatch) -> None:
    run = prepare(head(), CPU, Expected(), Cache.none())
    buffers = len(list(run.model.network.named_buffers()))
    learner, _ = HeadEnsemble.build(run, [Member(config=head(seed=seed)) for seed in range(3)], Cache.none(), Stopwatch())
    copies, copy = list[torch.Size](), torch.Tensor.cpu

    def counted(tensor: torch.Tensor) -> torch.Tensor:
        copies.append(tensor.shape)
        return copy(tensor)

    monkeypatch.setattr(torch.Tensor, "cpu", counted)
    states = [own.snapshot()(member) for own in (learner, learner.keep([0, 2]), learner) for member in (0, 2)]
    assert len(copies) == buffers > 0 and all(state.model.keys() == states[0].model.keys() for state in states)


def test_data_or_weights_that_cannot_be_read_end_every_lane(head: Head) -> None:
    configs = [head(seed=seed) for seed in range(3)]
    Path(configs[0].model.weights or "").unlink()
    facts = reported(configs)
    assert [[(fact.kind, fact.what) for fact in facts[lane]] for lane in range(3)] == [[("unavailable", "weights")]] * 3


def test_a_batch_larger_than_the_data_is_infeasible_for_every_lane(head: Head) -> None:
    facts = reported([head(seed=seed, batch_size=1_000) for seed in range(3)])
    assert [[(fact.reason, "lower batch_size" in fact.detail) for fact in facts[lane]] for lane in range(3)] == [[("infeasible", True)]] * 3


def test_only_heads_on_pretrained_weights_fit(head: Head) -> None:
    assert fits(head())
    assert not fits(head(frozen_layers=3))
    assert not fits(head(model=ImageModel(name="small_cnn")))
    assert not fits(head(model=ImageModel(name="gone", weights="DEFAULT")))


def test_runs_that_do_not_agree_in_what_they_share_are_refused(head: Head) -> None:
    for change in ({"batch_size": 4}, {"order_seed": 1}, {"image_size": 20}, {"augmentation": "flip"}, {"sampling": "balanced"}):
        with pytest.raises(ValueError, match="must agree in data, model, batch_size"):
            together([Member(config=head()), Member(config=head(**change))])


def test_lanes_learn_under_augmentation_too(head: Head) -> None:
    for views in (0, 2):
        facts = reported([head(seed=seed, epochs=3, augmentation="flip", augmentation_views=views, lr=0.02) for seed in range(2)])
        for own in facts.values():
            losses = [metrics["train_loss"] for metrics in measured(own)]
            assert losses[-1] < losses[0]


def test_alone_in_company_and_as_a_module_runs_end_equally_well(head: Head) -> None:
    """Dropout draws differ between the engines, so their final loss agrees as runs with different seeds do."""
    configs = [head(seed=seed, order_seed=3, epochs=6, lr=0.01, dropout=0.2) for seed in range(6)]
    company = [own[-1].metrics["loss"] for own in reported(configs).values()]
    alone = [reported([config])[0][-1].metrics["loss"] for config in configs]
    modules = [list(train(config, device=CPU))[-1].metrics["loss"] for config in configs]  # type: ignore[union-attr]
    spread = torch.tensor(modules).std()
    assert company == pytest.approx(alone, rel=1e-4)
    difference = torch.tensor(company) - torch.tensor(modules)
    assert difference.mean().abs() < 2 * spread / math.sqrt(len(configs)) and difference.abs().max() < 2 * spread
