"""Why a weights file is refused, in sentences for the user, and the two lines of Python that convert a file."""

from collections.abc import Sequence
from pathlib import PurePath


class UnreadableWeights(Exception):
    """The file is no weights file that can be read. The text is a sentence about the file that begins with "it" or "the file"."""


class DamagedPickle(UnreadableWeights):
    """A pickle in the file breaks off or makes no sense."""


class UnfitTensors(Exception):
    """The file is sound, but its tensors are not those of the model. The text names them."""


def conversion(name: str, keys: Sequence[str] = (), *, is_model: bool = False) -> str:
    """How to turn a file that only a full unpickler reads into safetensors: two lines of Python in backquotes.

    `keys` lead to the state dict inside the checkpoint; `is_model` is for a pickled module, whose state dict has to be taken.
    """
    target = PurePath(name).with_suffix(".safetensors").name
    path = "".join(f"[{key!r}]" for key in keys) + (".state_dict()" if is_model else "")
    first = f'import torch; state = torch.load({name!r}, map_location="cpu", weights_only=False){path}'
    second = (
        "from safetensors.torch import save_file; "
        f"save_file({{k: v.clone().contiguous() for k, v in state.items() if torch.is_tensor(v)}}, {target!r})"
    )
    return f"if you trust its source, since loading runs the code that the file names, convert it with two lines: `{first}` and `{second}`"
