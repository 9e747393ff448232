"""Python code that loads a saved text model. Imports no torch."""

from typing import assert_never

from trainer.backbones.description import AutoPooling, TextHead
from trainer.backbones.families import PoolingKind

HEAD = "head.safetensors"


TEXTS = 'texts = ["a text", "another text"]\n'
PAIRS = 'texts, texts_b = ["a text", "another text"], ["its second text", "another second text"]\n'


def usage(head: TextHead, pooling: AutoPooling, folder: str, *, pairs: bool = False) -> str:
    """Lines of Python that load the saved folder and compute the outputs `logits` of the list `texts`, with `pairs` also of `texts_b`."""
    where = repr(folder)
    encode = f'tokenizer(texts, {"texts_b, " if pairs else ""}padding=True, truncation=True, return_tensors="pt")'
    if head.has_own_head(pooling):
        kind = "AutoModelForSequenceClassification"
        return (
            f"from transformers import {kind}, AutoTokenizer\n\n"
            f"tokenizer, model = AutoTokenizer.from_pretrained({where}), {kind}.from_pretrained({where})\n"
            f"logits = model(**{encode}).logits\n"
        )
    kind = "T5EncoderModel" if head.model_type == "t5" else "AutoModel"
    return (
        "from safetensors.torch import load_file\n"
        "from torch.nn.functional import linear\n"
        f"from transformers import {kind}, AutoTokenizer\n\n"
        f"tokenizer, model, head = AutoTokenizer.from_pretrained({where}), {kind}.from_pretrained({where}), "
        f"load_file({f'{folder}/{HEAD}'!r})\n"
        f"tokens = {encode}\n"
        'states, mask = model(**tokens).last_hidden_state, tokens["attention_mask"][:, :, None]\n'
        f'logits = linear({_pooled(head.pooling_of(pooling))}, head["weight"], head["bias"])\n'
    )


def _pooled(kind: PoolingKind) -> str:
    match kind:
        case "cls":
            return "states[:, 0]"
        case "mean":
            return "(states * mask).sum(1) / mask.sum(1)"
        case "last":
            return "states[range(len(states)), mask[:, :, 0].sum(1) - 1]"
        case "max":
            return 'states.masked_fill(mask == 0, float("-inf")).amax(1)'
        case _:
            assert_never(kind)
