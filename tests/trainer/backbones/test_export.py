"""A saved model is loaded by the library alone, in a clean process, with equal outputs."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from trainer.backbones.description import AutoPooling, describe_folder
from trainer.backbones.export import Outputs, save
from trainer.backbones.factory import build
from trainer.backbones.families import FAMILIES
from trainer.backbones.usage import usage
from trainer.models import StagedModel
from trainer.sequences import Sequences
from trainer.tasks.composition import Problem

Folder = Callable[..., Path]
NAMES = ("bad", "01", "good")
TEXTS = ["w8 w9 w10 w11", "w20", "w30 w31 w9 w9 w9 w40 w41"]


def outputs_of(model: StagedModel, folder: Path, length: int = 100) -> list[list[float]]:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.enable_truncation(length)
    encoded = tokenizer.encode_batch(TEXTS)
    lengths = [len(one.ids) for one in encoded]
    rows = [torch.tensor([*zip(one.ids, one.type_ids, strict=True)] + [(0, 0)] * (max(lengths) - len(one.ids))) for one in encoded]
    with torch.no_grad():
        found: list[list[float]] = model.eval()(Sequences(torch.stack(rows), torch.tensor(lengths))).tolist()
    return found


def trained(folder: Path, pooling: AutoPooling) -> StagedModel:
    """With a head that is not the one of the folder, and changed stages."""
    model = build(folder, len(NAMES), pooling=pooling, seed=5)
    with torch.no_grad():
        for parameter in model.stages[-1].parameters():
            parameter.mul_(1.01)
    return model


CASES: list[tuple[str, AutoPooling]] = [(kind, "auto") for kind in FAMILIES]  # T5's is not the library's own head
CASES += [("bert", "mean"), ("bert", "max"), ("mpnet", "cls"), ("llama", "mean"), ("gpt2", "last"), ("gemma", "max")]


def test_a_clean_process_computes_equal_outputs(model_folder: Folder, tmp_path: Path) -> None:
    lines, expected = ["import json", f"texts, found = {TEXTS!r}, []"], []
    for kind, pooling in CASES:
        source, folder = model_folder(kind), tmp_path / f"{kind} {pooling}"
        model = trained(source, pooling)
        save(model, folder, source, Outputs(pooling=pooling, names=NAMES, problem="single_label_classification", max_length=100))
        expected.append(outputs_of(model, source))
        code = usage(describe_folder(source), pooling, str(folder))
        if kind.startswith("qwen"):  # for Qwen the library takes its own tokenizer, and splits by bytes, whatever the folder's one does
            code = code.replace("AutoTokenizer", "PreTrainedTokenizerFast")
        lines += [code, "found.append(logits.tolist())"]
        assert str(source) not in (folder / "config.json").read_text()
    script = tmp_path / "use.py"
    script.write_text("\n".join([*lines, "print(json.dumps(found))"]))
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=120, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    for (kind, pooling), own, mine in zip(CASES, json.loads(done.stdout), expected, strict=True):
        assert torch.allclose(torch.tensor(own), torch.tensor(mine), rtol=1e-4, atol=1e-5), (kind, pooling)


@pytest.mark.parametrize("problem", ["single_label_classification", "multi_label_classification", "regression"])
def test_the_outputs_have_their_names(problem: Problem, model_folder: Folder, tmp_path: Path) -> None:
    source = model_folder("distilbert")
    model = trained(source, "auto")
    before = model.network.config.to_dict()  # type: ignore[operator, union-attr]
    save(model, tmp_path, source, Outputs(names=NAMES, problem=problem))
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["id2label"] == {"0": "bad", "1": "01", "2": "good"}
    assert config["label2id"] == {"bad": 0, "01": 1, "good": 2}
    assert config["problem_type"] == problem and config["architectures"] == ["DistilBertForSequenceClassification"]
    assert model.network.config.to_dict() == before  # type: ignore[operator, union-attr]
    assert describe_folder(tmp_path).stages == 3  # an export can be the start of another study


def test_a_decoder_without_padding_gets_one(model_folder: Folder, tmp_path: Path) -> None:
    """By it the library finds the last token of a text."""
    source = model_folder("llama", pad_token_id=None)
    settings = json.loads((source / "tokenizer_config.json").read_text())
    (source / "tokenizer_config.json").write_text(json.dumps({name: value for name, value in settings.items() if name != "pad_token"}))
    save(trained(source, "auto"), tmp_path, source, Outputs(names=NAMES, problem="single_label_classification", max_length=7))
    written = json.loads((tmp_path / "tokenizer_config.json").read_text())
    assert json.loads((tmp_path / "config.json").read_text())["pad_token_id"] == 2
    assert (written["pad_token"], written["padding_side"], written["model_max_length"]) == ("[SEP]", "right", 7)


def test_the_real_model_is_saved(shared_data: Path, text_extra: None, tmp_path: Path) -> None:
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    source = shared_data / "weights/minilm-l6-v2"
    model = build(source, len(NAMES)).eval()
    assert model.drawn == {"classifier.weight", "classifier.bias"}  # its pooler is in the file
    save(model, tmp_path, source, Outputs(names=NAMES, problem="single_label_classification", max_length=128))
    tokens = AutoTokenizer.from_pretrained(tmp_path)(["Where is my card?", "Top up"], padding="longest", return_tensors="pt")
    with torch.no_grad():
        expected = AutoModelForSequenceClassification.from_pretrained(tmp_path)(**tokens).logits
        given = Sequences(torch.stack((tokens["input_ids"], tokens["token_type_ids"]), -1), tokens["attention_mask"].sum(1))
        assert torch.allclose(model(given), expected, rtol=1e-5, atol=1e-5)
