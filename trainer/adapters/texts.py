"""Adapts text models: their linear layers by stage, prompt vectors, stages with random values, and files in PEFT's format."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn

from trainer import files
from trainer.adapters.adapt import Block, adapt, missing_peft, random_stages
from trainer.adapters.config import LOW_RANK, AdapterHyperparameters
from trainer.backbones.stages import TextStage
from trainer.models import Infeasible, StagedModel
from trainer.order import seed_for
from trainer.sequences import Sequences

ATTENTION = re.compile("att(entio)?n", re.IGNORECASE)  # in the paths of attention's layers, for all types of models
WEIGHTS = "adapter_model.safetensors"
CLASSIFIERS = ("classifier", "score")


def adapted(model: StagedModel, config: AdapterHyperparameters, free_positions: int | None = None) -> StagedModel:
    """The model of `trainer.backbones.factory.build`, adapted and frozen as the config asks.

    `free_positions` is the number of positions that the longest text leaves for a prompt; None without a limit. Equal configs give equal
    models, and torch's random state is restored. Raises UnfitModel, and Infeasible for combinations that cannot be trained.
    """
    if config.method == "prompt" and free_positions is not None and config.prompt_tokens > free_positions:
        raise Infeasible(f"the model has {free_positions} positions left for a prompt; lower prompt_tokens or max_length")
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed_for(config.seed, "stages", 0))
        for stage in random_stages(model, config):
            _draw(_text_stage(stage))
    model.layer_decay = config.layer_decay
    return adapt(model, blocks(model), config, _add_prompt)


def blocks(model: StagedModel) -> list[Block | None]:
    """The linear layers of each stage; None for the embeddings.

    The outputs of the last linear layer of the attention, and of the last one of the MLP, are added to the residual stream.
    """
    paths = {id(module): path for path, module in model.network.named_modules()}
    return [None, *(_block(_text_stage(stage).own[0], paths) for stage in model.stages[1:])]


def _block(layer: nn.Module, paths: dict[int, str]) -> Block:
    linear = {paths[id(module)]: module for module in layer.modules() if isinstance(module, nn.Linear) or _is_conv1d(module)}
    start = len(paths[id(layer)])
    attention = tuple(path for path in linear if ATTENTION.search(path[start:]))
    mlp = tuple(path for path in linear if path not in attention)
    width = {path: int(module.nf if _is_conv1d(module) else module.out_features) for path, module in linear.items()}  # type: ignore[arg-type]
    return Block(attention=attention, mlp=mlp, outputs={path: width[path] for path in (attention[-1], mlp[-1])})


def _is_conv1d(module: nn.Module) -> bool:
    """Whether it is the library's linear layer with transposed weights, of GPT-2."""
    return type(module).__name__ == "Conv1D"


def _text_stage(stage: nn.Module) -> TextStage:
    if not isinstance(stage, TextStage):
        raise TypeError(f"{type(stage).__name__} is no stage of a text model")
    return stage


def _draw(stage: TextStage) -> None:
    """Draw the stage's values as the library does for a new network."""
    tensors: list[Any] = [*stage.parameters(), *stage.buffers()]
    for tensor in tensors:  # the library marks loaded tensors, and its functions leave marked ones as they are
        tensor._is_hf_initialized = False
    with torch.no_grad():
        for module in stage.own.modules():
            stage.base._init_weights(module)


class PromptedEmbeddings(nn.Module):
    """The first stage with P prompt vectors before the tokens: [B, T, 2] → hidden states [B, P + T, D], as PEFT's prompt tuning.

    The vectors take the place of token embeddings, so they get positions and segment 0 as tokens do. The first token moves by P: a head
    that reads the first position reads that of the first vector, as under PEFT.
    """

    def __init__(self, stage: TextStage, prompt: nn.Module, count: int) -> None:
        super().__init__()
        self.stage, self.prompt, self.count = stage, prompt, count
        stage.base.get_input_embeddings().register_forward_hook(self.insert)

    def insert(self, module: nn.Module, inputs: Any, output: Tensor) -> Tensor:
        """A forward hook of the token embeddings: the vectors in place of the first P embeddings."""
        vectors: Tensor = self.prompt(torch.arange(self.count, device=output.device))
        return torch.cat([vectors.to(output.dtype).expand(len(output), -1, -1), output[:, self.count :]], 1)

    def forward(self, given: Sequences) -> Sequences:
        values = torch.cat([given.values.new_zeros((len(given), self.count, *given.values.shape[2:])), given.values], 1)
        found: Sequences = self.stage(Sequences(values, given.lengths + self.count))
        return found


def _add_prompt(model: StagedModel, config: AdapterHyperparameters) -> Iterator[str]:
    """Vectors that begin as embeddings of tokens drawn from the vocabulary. Source: Lester et al., 2021, section 3.1."""
    stage = _text_stage(model.stages[0])
    try:
        from peft import PromptEmbedding
    except ModuleNotFoundError as error:
        raise missing_peft(error) from error
    prompt: nn.Module = PromptEmbedding(_prompt_config(model, config), stage.base.get_input_embeddings())  # type: ignore[no-untyped-call]
    model.network.add_module("prompt", prompt)
    model.replace_stage(0, PromptedEmbeddings(stage, prompt, config.prompt_tokens))
    return (f"prompt.{name}" for name, _ in prompt.named_parameters())


def _prompt_config(model: StagedModel, config: AdapterHyperparameters) -> Any:
    from peft import PromptTuningConfig

    stage = model.stages[0]
    base = (stage.stage if isinstance(stage, PromptedEmbeddings) else _text_stage(stage)).base
    return PromptTuningConfig(
        task_type="SEQ_CLS",
        num_virtual_tokens=config.prompt_tokens,
        token_dim=base.get_input_embeddings().embedding_dim,
        num_transformer_submodules=1,
        num_attention_heads=base.config.num_attention_heads,
        num_layers=base.config.num_hidden_layers,
        prompt_tuning_init="SAMPLE_VOCAB",
    )


def _saved_modules(tensors: list[str]) -> list[str]:
    """Paths of the head's modules, for PEFT. It adds modules of the names in CLASSIFIERS by itself, so parts of these are not named."""
    paths = set[str]()
    for name in tensors:
        parts = name.split(".")[:-1]
        cut = next((place for place, part in enumerate(parts) if part in CLASSIFIERS), len(parts) - 1)
        paths.add(".".join(parts[: cut + 1]))
    return sorted(paths)


def save_adapter(model: StagedModel, config: AdapterHyperparameters, folder: Path, base: str) -> None:
    """Write what was trained into the folder in PEFT's format; `base` is the folder or hub name of the model that was adapted.

    `AutoPeftModelForSequenceClassification.from_pretrained(folder, num_labels=N)` loads it. The network must have the library's own head.
    With a decoder under prompt tuning the library reads the last position of a batch, so there texts must not be padded.
    Raises ValueError for methods besides lora, dora and prompt.
    """
    network: Any = model.network
    trained = {name: tensor.detach().cpu().contiguous() for name, tensor in network.named_parameters() if tensor.requires_grad}
    own = [name for name in model.tensors_of(model.head) if name in trained]
    if config.method in LOW_RANK:
        found = network.peft_config["default"]
        found.task_type = "SEQ_CLS"
        found.modules_to_save = _saved_modules(own)
        tensors = {f"base_model.model.{name.replace('.default', '')}": tensor for name, tensor in trained.items()}
        tensors = {name.removesuffix(".weight") if "lora_magnitude_vector" in name else name: one for name, one in tensors.items()}
    elif config.method == "prompt":
        found = _prompt_config(model, config)
        found.modules_to_save = _saved_modules(own)
        tensors = {f"base_model.{name}": trained[name] for name in own} | {"prompt_embeddings": trained["prompt.embedding.weight"]}
    else:
        raise ValueError(f"PEFT has no format for the method {config.method}")
    found.base_model_name_or_path, found.inference_mode = base, True
    folder.mkdir(parents=True, exist_ok=True)
    found.save_pretrained(folder)
    content = safetensors.torch.save(tensors, {"format": "pt"})
    files.write(folder / WEIGHTS, lambda file: file.write(content))
