"""Training on texts: stored outputs, heads together, methods and tasks give the results that computing everything alone gives."""

import os
import runpy
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.trainer.text.conftest import needed, write_bert
from trainer.cache import Cache
from trainer.checkpoints import Checkpoints
from trainer.configuration import ALL_STAGES, DatasetInfo, TrainConfig, resolve_paths
from trainer.data.examples import BadData
from trainer.features import inputs_for
from trainer.features.frozen_prefix import SequenceLayout
from trainer.features.source import StoredExamples
from trainer.heads.ensemble import HeadEnsemble, fits
from trainer.learners import Member, ModelLearner
from trainer.loop import TrainingLoop, train
from trainer.models import Infeasible
from trainer.preparation import Expected, inspect, prepare
from trainer.protocol import CheckpointSaved, EpochMetrics, Failed, Finished, RunPrepared
from trainer.sequences import Sequences
from trainer.stopwatch import Stopwatch
from trainer.targets.numbers.spec import number_info
from trainer.tasks.base import UndescribedModel
from trainer.tasks.capabilities import ModelCard
from trainer.tasks.registry import spec_of
from trainer.tasks.text.config import FoundTextModel
from trainer.tasks.text.spec import text_info

HOST = torch.device("cpu")
TASKS = {
    "text_classification": ("label", "accuracy"),
    "text_regression": ("number", "rmse"),
    "text_multilabel": ("labels", "f1"),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT of two layers with random weights."""
    return write_bert(tmp_path_factory.mktemp("bert"))


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """120 texts of 1 to 20 words. The word w5 decides about the label, and the number of words about the number."""
    generator = torch.Generator().manual_seed(0)
    lines = ["text\tlabel\tnumber\tlabels"]
    for _ in range(120):
        words = torch.randint(4, 30, (int(torch.randint(1, 21, (1,), generator=generator)),), generator=generator).tolist()
        label, labels = "yes" if 5 in words or 6 in words else "no", "|".join(sorted({f"w{word}" for word in words if word in (7, 8, 9)}))
        lines.append(f"{' '.join(f'w{word}' for word in words)}\t{label}\t{len(words) / 2}\t{labels}")
    file: Path = tmp_path_factory.mktemp("texts") / "texts.tsv"
    file.write_text("\n".join(lines) + "\n")
    return file


@pytest.fixture
def configure(folder: Path, rows: Path) -> Any:
    def configure(task: str = "text_classification", **values: Any) -> TrainConfig:
        data = {"path": str(rows), "target": TASKS[task][0], "test": 0.2, "near_duplicates": False}
        settings = {"epochs": 2, "max_length": 12, "batch_size": 16, "lr": 3e-3, "pooling": "mean", **values}
        return TrainConfig.of_task(task)(task=task, data=data, model={"name": str(folder)}, **settings)

    return configure


def run(config: TrainConfig, **options: Any) -> tuple[RunPrepared, Finished]:
    events = list(train(config, device=HOST, **options))
    assert not [event for event in events if isinstance(event, Failed)], events
    (prepared,) = [event for event in events if isinstance(event, RunPrepared)]
    (finished,) = [event for event in events if isinstance(event, Finished)]
    return prepared, finished


def near(found: Mapping[str, float], wanted: Mapping[str, float]) -> bool:
    return found.keys() == wanted.keys() and all(found[name] == pytest.approx(wanted[name], abs=2e-4) for name in found)


@pytest.mark.parametrize("task", TASKS)
def test_each_task_trains_and_reports_and_its_card_has_lines_that_predict(configure: Any, task: str, tmp_path: Path) -> None:
    config, spec = configure(task, epochs=1), spec_of(task)
    prepared, finished = run(config, score_test=True, model_file=tmp_path / "model.safetensors")
    assert {"transformers", "tokenizers", "peft"} <= prepared.environment.keys()
    assert isinstance(spec, ModelCard)
    lines = spec.card_data(config, prepared.facts).loading
    (tmp_path / "use.py").write_text(lines.replace("model/", f"{tmp_path}/"))
    found = runpy.run_path(str(tmp_path / "use.py"))
    logits = found["logits"].detach()
    match task:
        case "text_classification":
            assert found["labels"] == [("no", "yes")[place] for place in logits.argmax(1).tolist()]
        case "text_regression":
            mean, std = number_info(prepared.facts).scale
            assert torch.allclose(found["values"], mean + std * logits[:, 0])
        case _:
            wanted = [[f"w{place + 7}" for place in range(3) if row[place] >= found["threshold"]] for row in logits.sigmoid().tolist()]
            assert found["labels"] == wanted and 0 < found["threshold"] < 1
    pairs = config.model_copy(update={"data": config.data.model_copy(update={"text_b": "label"})})
    assert "tokenizer(texts, texts_b, " in spec.card_data(pairs, prepared.facts).loading
    assert TASKS[task][1] in finished.metrics and finished.test is not None and TASKS[task][1] in finished.test.metrics


WORST = {"text_classification": "worst_classes", "text_regression": "worst_numbers", "text_multilabel": "worst_labels"}


@pytest.mark.parametrize("task", TASKS)
def test_the_texts_that_are_most_wrong_are_in_the_report_if_they_may(configure: Any, rows: Path, task: str) -> None:
    texts = {line.split("\t")[0] for line in rows.read_text().splitlines()[1:]}
    config = configure(task, epochs=1, lr=1e-6)
    loop = TrainingLoop([Member(config=config, score_test=True)], ModelLearner.build, device=HOST, shown=4)
    (finished,) = [event for event in loop.events() if isinstance(event, Finished)]
    worst = finished.report[WORST[task]]
    assert len(worst) > 4 and all(one["text"] in texts for one in worst[:4]) and not any("text" in one for one in worst[4:])
    assert finished.test is not None and not any("text" in one for one in finished.test.report[WORST[task]])
    assert not any("text" in one for one in run(config)[1].report[WORST[task]])


def test_heads_together_show_their_texts_alike(configure: Any) -> None:
    configs = [configure(frozen_layers=3, seed=number, lr=1e-6) for number in (1, 2)]
    loop = TrainingLoop([Member(config=config) for config in configs], HeadEnsemble.build, device=HOST, shown=4)
    for event in loop.events():
        if isinstance(event, Finished):
            assert ["text" in one for one in event.report["worst_classes"][:6]] == [True] * 4 + [False] * 2


def test_both_texts_of_a_pair_are_shown(configure: Any, rows: Path, tmp_path: Path) -> None:
    file = tmp_path / "pairs.tsv"
    file.write_text(rows.read_text().replace("labels\n", "other\n", 1))
    data = {"path": str(file), "text_b": "number", "target": "label", "test": 0.2, "near_duplicates": False}
    config = configure(epochs=1, lr=1e-6)
    config = type(config).model_validate({**config.model_dump(), "data": data})
    loop = TrainingLoop([Member(config=config)], ModelLearner.build, device=HOST, shown=1)
    (finished,) = [event for event in loop.events() if isinstance(event, Finished)]
    first = finished.report["worst_classes"][0]
    assert first["text"].startswith("w") and float(first["text_b"]) == len(first["text"].split()) / 2


@pytest.mark.parametrize("frozen", [1, 2])
def test_stored_sequences_give_what_computing_gives(configure: Any, tmp_path: Path, frozen: int) -> None:
    config, cache = configure(frozen_layers=frozen, epochs=3), Cache(tmp_path, 10**9)
    prepared, reading = run(config, cache=cache, demand={frozen: 1e9}, depths=(frozen, frozen))
    assert prepared.reuse is not None and prepared.reuse.depth == frozen
    _, computing = run(config, share=False)
    assert near(reading.metrics, computing.metrics)


def test_an_entry_has_a_row_for_each_token_and_none_for_padding(configure: Any, tmp_path: Path) -> None:
    prepared = prepare(configure(frozen_layers=2), HOST, Expected(), Cache.none())
    part, lengths = StoredExamples(prepared, prepared.training, 1, augmented=False), prepared.examples.lengths  # type: ignore[attr-defined]
    assert part.entry_shape(SequenceLayout((32,), torch.float32)) == (int(lengths[part.rows].sum()), 32)
    inputs = inputs_for(prepared, Cache(tmp_path, 10**9), {}, Stopwatch.of(HOST), (2, 2))
    list(inputs.ready(0, None))
    batch = prepared.batches_of(1)[0]
    found, wanted = inputs.batch(batch, 0), prepared.model.forward_prefix(prepared.examples.take(batch, None), 2)
    assert isinstance(found, Sequences) and isinstance(wanted, Sequences) and inputs.depth == 2
    torch.testing.assert_close(found.packed(), wanted.packed(), rtol=1e-4, atol=1e-5)


def test_a_batch_is_padded_to_its_longest_text_alone(configure: Any) -> None:
    prepared = prepare(configure(), HOST, Expected(), Cache.none())
    batch = prepared.batches_of(1)[0]
    found = prepared.examples.take(batch, None)
    assert isinstance(found, Sequences) and found.values.shape[1] == int(found.lengths.max())
    widths = [int(prepared.examples.take(rows, None).lengths.max()) for rows in prepared.batches_of(1)]  # type: ignore[union-attr]
    assert len({*widths}) > 1, "batches are of similar lengths"


def test_heads_together_equal_heads_alone(configure: Any, tmp_path: Path) -> None:
    configs = [configure(frozen_layers=3, seed=number, lr=lr) for number, lr in enumerate((1e-3, 1e-2))]
    assert all(map(fits, configs))
    loop = TrainingLoop([Member(config=config) for config in configs], HeadEnsemble.build, device=HOST, cache=Cache(tmp_path, 10**9))
    with closing(loop.events()) as events:
        together = {event.lane: event for event in events if isinstance(event, Finished)}
    for number, config in enumerate(configs):
        _, alone = run(config, share=False)
        assert near(together[number].metrics, alone.metrics)


@pytest.mark.parametrize("method", ["lora", "dora", "bitfit", "adapter", "prompt"])
def test_each_method_trains_less_than_everything_and_changes_the_result(configure: Any, method: str) -> None:
    whole, _ = run(configure(epochs=1))
    prepared, finished = run(configure(epochs=1, method=method, prompt_tokens=2, adapter_size=4))
    assert 0 < prepared.trainable < whole.trainable / 2
    _, frozen = run(configure(epochs=1, frozen_layers=3))
    assert finished.metrics["loss"] != frozen.metrics["loss"]


def test_lora_in_the_last_layer_reads_what_lies_below(configure: Any, tmp_path: Path) -> None:
    config = configure(method="lora", lora_layers=1, lora_r=2)
    prepared, reading = run(config, cache=Cache(tmp_path, 10**9), demand={2: 1e9}, depths=(2, 2))
    assert prepared.reuse is not None and prepared.reuse.depth == 2
    _, computing = run(config, share=False)
    assert near(reading.metrics, computing.metrics)


def test_a_lora_run_resumes_bit_for_bit(configure: Any, tmp_path: Path) -> None:
    config = configure(method="lora", lora_r=2, lora_dropout=0.1, epochs=3)
    _, whole = run(config)
    kept = Checkpoints(tmp_path, seconds=0.0)
    with closing(train(config, device=HOST, checkpoints=kept)) as events:
        saved = next(event.checkpoint for event in events if isinstance(event, CheckpointSaved))
    resumed = list(train(config, device=HOST, checkpoints=Checkpoints(tmp_path, seconds=0.0, resume=[saved])))
    (finished,) = [event for event in resumed if isinstance(event, Finished)]
    assert [event.step for event in resumed if isinstance(event, EpochMetrics)] == [2, 3]
    assert finished.metrics == whole.metrics


def test_the_check_states_how_many_texts_are_cut(configure: Any) -> None:
    checked = inspect(configure(max_length=8), HOST, Cache.none())
    tokens = text_info(checked.facts).tokens
    assert tokens is not None and tokens.max_length == 8 and 0 < tokens.truncated < tokens.texts
    assert any("max_length 8 cuts" in note for note in checked.facts.notes)


def test_the_card_of_a_regression_states_how_outputs_are_standardised_and_that_near_duplicates_were_sought(configure: Any) -> None:
    config = configure(task="text_regression")
    spec = spec_of(config.task)
    assert isinstance(spec, ModelCard)
    notes = spec.card_data(config, inspect(config, HOST, Cache.none()).facts).notes
    assert len(notes) == 2 and "is standardised" in notes[0] and notes[1] == "No near-duplicates were found."


def test_unfit_targets_are_refused(configure: Any, rows: Path, tmp_path: Path) -> None:
    other = tmp_path / "one.tsv"
    other.write_text("text\tlabel\n" + "".join(f"w4 w{number}\tsame\n" for number in range(5, 20)))
    config = configure()
    with pytest.raises(BadData, match="same"):
        prepare(config.model_copy(update={"data": config.data.model_copy(update={"path": str(other)})}), HOST, Expected(), Cache.none())
    assert os.path.exists(rows)


def test_an_exported_run_is_a_folder_of_the_library_and_an_adapter(configure: Any, tmp_path: Path) -> None:
    config = configure(method="lora", lora_r=2, pooling="auto", epochs=1)
    _, finished = run(config, model_file=tmp_path / "model.safetensors")
    transformers = needed("transformers")
    loaded = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path / "huggingface").eval()
    modes = {(tmp_path / "huggingface" / name).stat().st_mode for name in ("config.json", "model.safetensors")}
    assert len(modes) == 1, "the weights are as readable as the other files"
    assert loaded.config.id2label == {0: "no", 1: "yes"} and not [name for name, _ in loaded.named_parameters() if "lora" in name]
    assert {file.name for file in (tmp_path / "adapter").iterdir()} >= {"adapter_config.json", "adapter_model.safetensors"}
    prepared = prepare(config, HOST, Expected(), Cache.none())
    rows = prepared.validation
    batch = prepared.examples.take(rows, None)
    assert isinstance(batch, Sequences)
    state = load_file(tmp_path / "model.safetensors")
    assert all(torch.equal(state[name], tensor) for name, tensor in loaded.state_dict().items()), "both files have the merged weights"
    with torch.no_grad():
        right = loaded(input_ids=batch.values[..., 0], attention_mask=batch.mask.long()).logits.argmax(1) == prepared.targets[rows]
    assert float(right.double().mean()) == pytest.approx(finished.metrics["accuracy"])


@pytest.mark.parametrize("method", ["adapter", "prompt"])
def test_layers_that_do_not_fit_the_library_are_left_out_of_its_folder(configure: Any, tmp_path: Path, method: str) -> None:
    run(configure(method=method, pooling="auto", epochs=1, prompt_tokens=2), model_file=tmp_path / "model.safetensors")
    assert (tmp_path / "model.safetensors").exists() and not (tmp_path / "huggingface").exists()
    assert (tmp_path / "adapter").exists() == (method == "prompt")


def test_the_check_finds_the_model_and_leaves_unfit_values_to_the_service(configure: Any) -> None:
    unfit = configure(frozen_layers=4, max_length=41)
    found = text_info(inspect(unfit, HOST, Cache.none()).facts)
    assert found.model == FoundTextModel(type="bert", stages=3, positions=40, hidden_size=32)
    assert DatasetInfo.model_validate(found.model_dump(mode="json")).described_model == found.model
    with pytest.raises(Infeasible, match="the model has 3 stages"):
        prepare(unfit, HOST, Expected(), Cache.none())
    prepared = prepare(configure(frozen_layers=ALL_STAGES), HOST, Expected(), Cache.none())
    assert prepared.config.frozen_layers == prepared.model.frozen == 3


def test_a_hub_name_without_its_owner_gets_an_example(tmp_path: Path) -> None:
    document = {"task": "text_classification", "model": {"name": "bert-base-uncased"}, "data": {"path": "train.csv"}}
    assert resolve_paths(document, tmp_path) == {**document, "data": {"path": str(tmp_path / "train.csv")}}
    with pytest.raises(UndescribedModel) as refused:
        spec_of("text_classification").describe("bert-base-uncased")
    assert "OWNER/NAME, such as google-bert/bert-base-uncased" in refused.value.text
    (tmp_path / "models" / "own").mkdir(parents=True)
    document["model"] = {"name": "models/own"}
    assert resolve_paths(document, tmp_path)["model"] == {"name": str(tmp_path / "models" / "own")}  # type: ignore[index]


@pytest.mark.parametrize("document", [{"task": []}, {"task": {}}, {"task": "text_classification", "model": {"name": "a" * 4000}}])
def test_paths_of_hostile_documents_are_left_to_the_parser(document: dict[str, Any], tmp_path: Path) -> None:
    assert resolve_paths(document, tmp_path) == document
    if isinstance(document["task"], str):
        with pytest.raises(UndescribedModel, match="cannot be read"):
            spec_of(document["task"]).describe(document["model"]["name"])
