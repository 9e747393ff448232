"""A text model as a function of padded tokens, for programs without this project."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from trainer.backbones.description import TextModelInfo
from trainer.models import StagedModel
from trainer.sequences import Sequences
from trainer.tasks.base import Examples
from trainer.tasks.text.config import TextTrainConfig

AXES = {0: "batch", 1: "tokens"}


class PaddedTexts(nn.Module):
    """Tokens int64 [B, T] padded at the end, mask and segments likewise → outputs [B, O]. Padding has a mask of 0."""

    def __init__(self, model: StagedModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor) -> Tensor:
        found = Sequences(torch.stack((input_ids, token_type_ids), -1), attention_mask.sum(1))
        return self.model.forward_from(found, 0).float()


class TextGraph:
    """Implements `trainer.tasks.capabilities.Graph`."""

    inputs: Mapping[str, Mapping[int, str]] = {"input_ids": AXES, "attention_mask": AXES, "token_type_ids": AXES}

    def __init__(self, model: StagedModel, config: TextTrainConfig, described: TextModelInfo) -> None:
        self.module, self.network = PaddedTexts(model), described.model_type
        self._config, self._vocabulary = config, described.tokens

    @property
    def preprocessing(self) -> Mapping[str, Any]:
        """The tokenizer, and how its tokens are cut and padded."""
        tokenizer = f"{Path(self._config.model.name).name}/tokenizer.json"
        return {"tokenizer": tokenizer, "max_length": self._config.max_length, "padding": "right"}

    def of(self, examples: Examples, rows: Tensor) -> tuple[Tensor, ...]:
        """Tokens, mask and segments of the rows."""
        found = examples.take(rows, None)
        if not isinstance(found, Sequences):
            raise TypeError(f"{type(found).__name__} contains no sequences")
        values, mask = found.values.long(), found.mask.long()
        return values[..., 0] * mask, mask, values[..., 1] * mask  # padded by 0, as other programs pad

    def random_inputs(self, sizes: Sequence[int], generator: torch.Generator) -> tuple[Tensor, ...]:
        """Random tokens: a text of each size, of at most `max_length` tokens."""
        lengths = torch.tensor([min(size, self._config.max_length) for size in sizes])
        mask = (torch.arange(int(lengths.max())) < lengths[:, None]).long()
        return torch.randint(self._vocabulary, mask.shape, generator=generator) * mask, mask, torch.zeros_like(mask)
