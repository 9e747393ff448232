"""Selects the model's tensors in a weights file: finds the state dict in the checkpoint and the prefix of its names."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from math import isqrt
from typing import Any

from trainer.tasks.images.catalogue import Model
from trainer.weight_files import Outline
from trainer.weight_files.pickles import TensorOutline, UnfitTensors, UnreadableWeights, conversion

CONTAINERS = (
    "state_dict", "model", "model_state_dict", "model_state", "module", "net", "network", "weights", "params", "backbone",
    "teacher", "student",    "model_ema", "state_dict_ema", "ema_state_dict", "model_ema_state_dict", "ema_model", "ema", "params_ema",
)  # fmt: skip
"""Keys of state dicts in checkpoints. The first one present is taken, so trained values have precedence over their moving average."""
PREFIXES = ("", "module.", "model.", "module.module.", "backbone.", "model.backbone.", "net.", "network.", "model.model.")
"""Prefixes with precedence over others that fit equally well."""
WRAPPERS = re.compile(r"(?:(?<=\.)|^)(?:_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")
"""Parts that torch.compile, FSDP and activation checkpointing insert anywhere in a name."""
OLD_NAMES: Mapping[str, tuple[re.Pattern[str], Mapping[str, str]]] = {
    "vit": (re.compile(r"\.mlp\.linear_([12])\."), {"1": ".mlp.0.", "2": ".mlp.3."}),  # torchvision before 0.14, and its published files
}
MOST_LEVELS = 4
LISTED = 5
LONGEST_NAME = 80


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """The model's tensors in a file."""

    container: tuple[str, ...]  # keys from the checkpoint's root to the state dict
    names: Mapping[str, str]  # names in the network → names in the file
    prefix: str  # removed from the file's names
    wrappers: tuple[str, ...]  # parts removed from the middle of the file's names
    unused: tuple[str, ...]  # other state dicts in the checkpoint, by key
    left_out: tuple[str, ...]  # tensors of this state dict without the prefix


def select(outline: Outline, model: Model, name: str) -> Selection:
    """The model's tensors in the file `name`. All stages must be present; the head may be absent, since its last layer is replaced anyway.

    Raises UnreadableWeights if the file contains no state dict or must be converted, UnfitTensors if the tensors are another model's.
    """
    container, state, unused = _state_dict(outline, name)
    if outline.foreign:
        raise UnreadableWeights(
            f"it needs more than tensors to be loaded ({_some(outline.foreign)}): that is never executed here, and torch's safe loader "
            f"refuses it; "
            f"{conversion(name, container)}"
        )
    tensors = {title: tensor for title, tensor in state.items() if isinstance(tensor, TensorOutline)}
    plain = {title: _plain(title, model.family) for title in tensors}
    prefix = _prefix(plain.values(), model)
    names = {title[len(prefix) :]: original for original, title in plain.items() if title.startswith(prefix)}
    if misfits := _misfits({title: tensors[original] for title, original in names.items()}, model):
        raise UnfitTensors(misfits)
    return Selection(
        container=container,
        names=names,
        prefix=prefix,
        wrappers=tuple(dict.fromkeys(found.group() for title in tensors if (found := WRAPPERS.search(title)))),
        unused=unused,
        left_out=tuple(title for title in tensors if not plain[title].startswith(prefix)),
    )


def _state_dict(outline: Outline, name: str) -> tuple[tuple[str, ...], Mapping[str, Any], tuple[str, ...]]:
    """The keys that lead to the state dict, the state dict, and the keys of other state dicts, which are not used."""
    path, unused, node = list[str](), list[str](), outline.root
    for _ in range(MOST_LEVELS):
        inner = [key for key, value in node.items() if _holds_tensors(value)]
        known = [key for key in CONTAINERS if key in inner]
        if not known and any(isinstance(value, TensorOutline) for value in node.values()):
            break
        if not (chosen := known or inner):
            break
        if not known and len(inner) > 1:
            raise UnreadableWeights(f"it holds several sets of tensors ({_some(inner)}); save the state dict of one of them alone")
        unused += [".".join([*path, key]) for key in inner if key != chosen[0]]
        path.append(chosen[0])
        node = node[chosen[0]]
    if not any(isinstance(value, TensorOutline) for value in node.values()):
        if outline.foreign:
            raise UnreadableWeights(
                f"it holds no state dict, but pickled objects ({_some(outline.foreign)}), which are never executed; "
                f"save model.state_dict(), or {conversion(name, [*outline.root][:1], is_model=True)}"
            )
        raise UnreadableWeights("it holds no state dict, a mapping of names to tensors; save model.state_dict()")
    return tuple(path), node, tuple(unused)


def _holds_tensors(value: Any, levels: int = MOST_LEVELS) -> bool:
    if not isinstance(value, Mapping) or not levels:
        return False
    inside = value.values()
    return any(isinstance(one, TensorOutline) for one in inside) or any(
        _holds_tensors(value[key], levels - 1) for key in CONTAINERS if key in value
    )


def _plain(title: str, family: str) -> str:
    title = WRAPPERS.sub("", title)
    if family in OLD_NAMES:
        pattern, replacements = OLD_NAMES[family]
        title = pattern.sub(lambda found: replacements[found.group(1)], title)
    return title


def _prefix(titles: Iterable[str], model: Model) -> str:
    """The prefix behind which most of the model's names occur in the file. Raises UnfitTensors if two sets fit equally well."""
    wanted = {title for stage in model.stages for title in stage.tensors}
    counts = Counter(prefix for title in titles for prefix in _prefixes(title, wanted))
    if not counts:
        return ""
    most = max(counts.values())
    best = [prefix for prefix, count in counts.items() if count == most]
    if len(best) > 1 and not (best := [prefix for prefix in PREFIXES if prefix in best]):
        found = _some(sorted(prefix for prefix, count in counts.items() if count == most))
        raise UnfitTensors(f"it holds several sets of tensors for {model.name}, under {found}; save one of them alone")
    return best[0] if most * 2 > len(wanted) else ""  # fewer names may agree by chance


def _prefixes(title: str, wanted: set[str]) -> Iterator[str]:
    place = 0
    while True:
        if title[place:] in wanted:
            yield title[:place]
        if (dot := title.find(".", place)) < 0 or title.count(".", 0, dot) > MOST_LEVELS:
            return
        place = dot + 1


def _misfits(found: Mapping[str, TensorOutline], model: Model) -> str:
    """The reasons why the tensors cannot be loaded, "" if there are none. `num_batches_tracked` may be missing: it is not used."""
    head = {title: shape for title, shape in model.head.tensors.items() if title not in model.classifier}
    wanted = {title: shape for stage in model.stages for title, shape in stage.tensors.items()}
    if found.keys() & head.keys():
        wanted |= head
    shared = sorted(wanted.keys() & found.keys())
    kinds = {
        "missing": sorted(title for title in wanted.keys() - found.keys() if not title.endswith("num_batches_tracked")),
        "unexpected": sorted(found.keys() - wanted.keys() - {*model.classifier}),
        "of another shape": [title for title in shared if not _fits(title, found[title].shape, wanted[title], model)],
        "not of floating point": [title for title in shared if not found[title].is_floating_point and not _is_integer(title)],
    }
    parts = [f"{len(titles)} {kind} ({_some(titles)})" for kind, titles in kinds.items() if titles]
    return "; ".join(parts)


def _fits(title: str, found: tuple[int, ...], wanted: tuple[int, ...], model: Model) -> bool:
    """Whether the shape fits. Positions of another image size fit if they form a square grid behind the first token (`families.adapt`)."""
    if found == wanted or title not in model.resizable:
        return found == wanted
    if len(found) != 3 or found[0] != 1 or found[2] != wanted[2] or found[1] < 2:
        return False
    return isqrt(found[1] - 1) ** 2 == found[1] - 1


def _is_integer(title: str) -> bool:
    return title.endswith(("num_batches_tracked", "relative_position_index"))


def _some(names: Iterable[str]) -> str:
    listed = list(names)
    return ", ".join(one[:LONGEST_NAME] for one in listed[:LISTED]) + (", …" if len(listed) > LISTED else "")
