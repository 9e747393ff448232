"""A model folder is described, or refused with a remedy, without torch."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.trainer.backbones.conftest import HIDDEN, VOCABULARY, bert_shapes, write_weights
from trainer.backbones.description import UnfitFolder, describe_folder, digest
from trainer.backbones.families import FAMILIES

Folder = Callable[..., Path]


def code_of(folder: Path) -> str:
    with pytest.raises(UnfitFolder) as caught:
        describe_folder(folder)
    return caught.value.code


def text_of(folder: Path) -> str:
    with pytest.raises(UnfitFolder) as caught:
        describe_folder(folder)
    assert str(caught.value).startswith(("it ", "its "))
    return str(caught.value)


def test_a_folder_is_described(bert_folder: Folder) -> None:
    info = describe_folder(bert_folder())
    assert (info.model_type, info.stages, info.hidden_size, info.positions) == ("bert", 3, HIDDEN, 40)
    assert info.stage_names == ("embeddings", "layer 0", "layer 1")
    assert info.stage_parameters == (VOCABULARY * HIDDEN + HIDDEN, 4 * HIDDEN, 4 * HIDDEN)
    assert (info.vocabulary, info.tokens, info.tokenizer, info.license) == (VOCABULARY, VOCABULARY, "WordLevel", None)
    assert info.head_parameters("auto", 7) == HIDDEN * (HIDDEN + 1) + 7 * (HIDDEN + 1)
    assert info.head_parameters("mean", 7) == 7 * (HIDDEN + 1)


def test_a_text_may_not_have_more_tokens_than_the_model_has_positions(bert_folder: Folder) -> None:
    info = describe_folder(bert_folder())
    assert info.fault_of("max_length", 40) is None and info.fault_of("lr", 1.0) is None
    fault = info.fault_of("max_length", 41)
    assert fault is not None and fault[0] == "text_too_long" and "40" in fault[1]


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"model_type": "t5gemma"}, "unknown_model_type"),
        ({"model_type": None}, "unknown_model_type"),
        ({"model_type": ["bert"]}, "unknown_model_type"),
        ({"auto_map": {"AutoModel": "modeling.Evil"}}, "remote_code"),
        ({"quantization_config": {"bits": 4}}, "quantized_weights"),
        ({"hidden_size": 10**9}, "absurd_size"),
        ({"num_hidden_layers": 10**6}, "absurd_size"),
        ({"num_hidden_layers": "2"}, "absurd_size"),
        ({"num_hidden_layers": 0}, "absurd_size"),
        ({"intermediate_size": 10**400}, "absurd_size"),
        ({"is_decoder": True}, "unfit_config"),
        ({"position_embedding_type": "relative_key"}, "unfit_config"),
        ({"rope_scaling": {"rope_type": "longrope"}}, "unfit_config"),
        ({"vocab_size": 61}, "unfit_weights"),
        ({"num_hidden_layers": 3}, "unfit_weights"),
        ({"num_hidden_layers": 1}, "unfit_weights"),
        ({"tokens": 61}, "unfit_tokenizer"),
        ({"tokens": VOCABULARY // 2 - 1}, "unfit_tokenizer"),
    ],
)
def test_an_unfit_folder_is_refused(changes: dict[str, Any], code: str, bert_folder: Folder) -> None:
    assert code_of(bert_folder(**changes)) == code


def test_the_types_are_named_in_the_refusal_of_another(bert_folder: Folder) -> None:
    assert "'whisper'" in text_of(folder := bert_folder(model_type="whisper")) and "modernbert" in text_of(folder)


def test_code_of_a_tokenizer_is_refused(bert_folder: Folder) -> None:
    folder = bert_folder()
    (folder / "tokenizer_config.json").write_text(json.dumps({"auto_map": {"AutoTokenizer": ["tokenization.Evil", None]}}))
    assert code_of(folder) == "remote_code"


def test_a_file_or_nothing_is_no_folder(bert_folder: Folder, tmp_path: Path) -> None:
    assert code_of(bert_folder() / "config.json") == "not_a_folder"
    assert code_of(tmp_path / "nowhere") == "missing_model"
    assert code_of(tmp_path) == "missing_weights"


def test_pickled_weights_are_refused_with_the_lines_that_convert_them(bert_folder: Folder) -> None:
    folder = bert_folder()
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    assert code_of(folder) == "pickled_weights"
    assert "use_safetensors=False" in text_of(folder)


def test_a_pickle_under_the_name_of_a_safetensors_file_is_refused(bert_folder: Folder) -> None:
    folder = bert_folder()
    (folder / "model.safetensors").write_bytes(b"\x80\x04}.")
    assert code_of(folder) == "unfit_weights"


def test_a_missing_tokenizer_is_refused_with_the_line_that_writes_it_if_there_is_a_vocabulary(bert_folder: Folder) -> None:
    folder = bert_folder()
    (folder / "tokenizer.json").unlink()
    assert code_of(folder) == "missing_tokenizer"
    assert "AutoTokenizer" not in text_of(folder) and "copy the tokenizer's files" in text_of(folder)
    (folder / "vocab.txt").write_text("[PAD]\n")
    assert "AutoTokenizer.from_pretrained" in text_of(folder)


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json"])
@pytest.mark.parametrize(
    "content", [b"", b"[]", b"{" * 100_000, b"\xff", b'{"model": {"vocab": {"a": "b"}}}', b'{"model": {"vocab": {"a": true}}}']
)
def test_a_damaged_document_is_refused(name: str, content: bytes, bert_folder: Folder) -> None:
    folder = bert_folder()
    (folder / name).write_bytes(content)
    assert code_of(folder) in ("unfit_config", "unfit_tokenizer", "unknown_model_type")


def test_a_huge_or_special_file_is_not_read(bert_folder: Folder) -> None:
    folder = bert_folder()
    with (folder / "config.json").open("wb") as file:
        file.truncate(2**33)
    assert code_of(folder) == "unfit_file"
    (folder / "config.json").unlink()
    os.mkfifo(folder / "config.json")
    assert code_of(folder) == "unfit_file"


def test_a_layer_that_lacks_a_tensor_is_named(bert_folder: Folder) -> None:
    shapes = bert_shapes()
    del shapes["bert.encoder.layer.0.output.dense.weight"], shapes["bert.encoder.layer.0.output.dense.bias"]
    assert "layer 0" in text_of(bert_folder(shapes=shapes))


def shard(folder: Path, index: object) -> None:
    (folder / "model.safetensors").unlink()
    shapes = bert_shapes()
    for place in range(2):
        write_weights(folder / f"part-{place}.safetensors", {name: shapes[name] for name in [*shapes][place::2]})
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def test_shards_are_read_by_their_index(bert_folder: Folder) -> None:
    folder = bert_folder()
    whole = describe_folder(folder)
    names = {name: f"part-{place % 2}.safetensors" for place, name in enumerate(bert_shapes())}
    shard(folder, {"weight_map": names})
    found = describe_folder(folder)
    assert found.weight_files == ("part-0.safetensors", "part-1.safetensors")
    assert found.stage_parameters == whole.stage_parameters


@pytest.mark.parametrize("name", ["../model.safetensors", "/etc/passwd", "..", "", 3])
def test_an_index_cannot_name_files_elsewhere(name: object, bert_folder: Folder) -> None:
    folder = bert_folder()
    shard(folder, {"weight_map": {"a": name}})
    assert code_of(folder) == "unfit_weights"


def test_the_digest_covers_configuration_tokenizer_and_weights(bert_folder: Folder) -> None:
    folder = bert_folder()
    (folder / "README.md").write_text("---\nlicense: mit\n---\n")
    assert describe_folder(folder).license == "mit"
    seen = [digest(folder)]
    (folder / "README.md").write_text("another text")
    assert digest(folder) == seen[0]
    for name, text in (("config.json", None), ("tokenizer.json", None), ("tokenizer_config.json", "{}"), ("added_tokens.json", "{}")):
        (folder / name).write_text((folder / name).read_text() + " " if text is None else text)
        seen.append(digest(folder))
    write_weights(folder / "model.safetensors", {**bert_shapes(), "more": (1,)})
    seen.append(digest(folder))
    assert len({*seen}) == len(seen)


@pytest.mark.parametrize("name", ["model", "config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors", "README.md"])
def test_each_path_is_permitted_before_it_is_read(name: str, bert_folder: Folder) -> None:
    folder = bert_folder()
    (folder / "README.md").write_text("a text")

    def permit(path: Path) -> None:
        if path.name == name:
            raise LookupError(path)

    with pytest.raises(LookupError):
        describe_folder(folder, permit)


def test_a_folder_is_described_without_torch(bert_folder: Folder) -> None:
    code = (
        "import sys; from pathlib import Path; from trainer.backbones.description import describe_folder; "
        f"describe_folder(Path({str(bert_folder())!r})); print(sorted({{'torch', 'transformers', 'numpy'}} & sys.modules.keys()))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert found.stdout.strip() == "[]"


@pytest.mark.parametrize("kind", FAMILIES)
def test_sizes_that_are_left_out_are_the_librarys(kind: str, text_extra: None) -> None:
    from transformers import AutoConfig

    config = AutoConfig.for_model(kind)
    assert {name: getattr(config, name) for name in FAMILIES[kind].defaults} == dict(FAMILIES[kind].defaults)


def test_the_real_model_is_described(shared_data: Path) -> None:
    info = describe_folder(shared_data / "weights/minilm-l6-v2")
    assert (info.model_type, info.stages, info.hidden_size, info.positions, info.vocabulary) == ("bert", 7, 384, 512, 30522)
    assert sum(info.stage_parameters) == 22_565_376
    assert info.license == "LICENSE" and info.dtypes == ("float16",)


def test_positions_of_types_that_reserve_some(model_folder: Folder) -> None:
    assert describe_folder(model_folder("roberta")).positions == 38
    assert describe_folder(model_folder("mpnet")).positions == 38
    assert describe_folder(model_folder("t5")).positions is None
