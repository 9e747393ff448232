"""The part of a script that makes the model: its weights, its new head, its dropout, and what is frozen of it."""

import trainer.tasks.image_classification.catalogue as catalogue
from trainer.configuration import LoadedWeights
from trainer.tasks.image_classification.config import ImageTrainConfig
from trainer.tasks.image_classification.export.parts import part

WITHOUT_DROPOUT = frozenset({"resnet", "convnext", "shufflenet_v2", "small", "swin", "vit"})
"""Families whose networks have none in the head; the trainer puts one before the last layer."""


def frozen_prefixes(config: ImageTrainConfig) -> tuple[str, ...]:
    """How the names of all tensors begin that are frozen; those of modules with a dot at the end."""
    prefixes = dict[str, None]()
    for stage in catalogue.load(config.model.name).stages[: config.frozen_layers]:
        for tensor in stage.tensors:
            prefixes[_prefix(tensor, stage.name)] = None
    return tuple(prefixes)


def _prefix(tensor: str, stage: str) -> str:
    """The stage where it is a module that holds the tensor; else the layer with the tensor; else the tensor, which is a module's own."""
    if tensor.startswith(f"{stage}."):
        return f"{stage}."
    owner, _, name = tensor.rpartition(".")
    return f"{owner}." if name in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked") else tensor


def head_layers(config: ImageTrainConfig) -> tuple[str, ...]:
    """The layers of the head that have parameters, in their order; the last one is made anew for the task's classes."""
    return tuple(dict.fromkeys(tensor.rpartition(".")[0] for tensor in catalogue.load(config.model.name).head.tensors))


def last_layer(config: ImageTrainConfig) -> str:
    """The layer that is made anew for the task's classes."""
    return catalogue.load(config.model.name).classifier[0].rpartition(".")[0]


def build(config: ImageTrainConfig, loaded: LoadedWeights | None = None) -> str:
    """The function that makes the model; `loaded` says which part of the weights file is the model's."""
    lines = ["def build(weights, seed):", f'    """{_described(config)}"""', "    torch.manual_seed(seed)", f"    model = {_made(config)}"]
    if config.model.pretrained:
        lines += [part("loading" if loaded is None else "selecting"), *_adapted(config), _fresh(config), part("fitting")]
    lines += ["    torch.manual_seed(seed)"]
    layers = "HEAD" if not config.model.pretrained else "fresh"
    lines += [f"    for name in {layers}:", "        model.get_submodule(name).reset_parameters()", *_dropout(config)]
    if _normalises(config):
        lines.append(part("synchronised"))
    if config.frozen_layers:
        lines.append(part("freezing"))
    return "\n".join([*lines, "    return model.to(DEVICE)"])


def _described(config: ImageTrainConfig) -> str:
    weights = "its weights loaded" if config.model.pretrained else "random weights"
    stages = f", its first {config.frozen_layers} stages frozen" if config.frozen_layers else ""
    return f"The model with {weights}, a new last layer for these classes{stages}."


def _made(config: ImageTrainConfig) -> str:
    match catalogue.load(config.model.name).family:
        case "small":
            return "SmallCnn(len(CLASSES))"
        case "vit":
            return "models.get_model(MODEL, weights=None, num_classes=len(CLASSES), image_size=IMAGE_SIZE)"
        case _:
            return "models.get_model(MODEL, weights=None, num_classes=len(CLASSES))"


def _adapted(config: ImageTrainConfig) -> list[str]:
    """A ViT's old names become new ones, and its positions are interpolated to the image size."""
    if catalogue.load(config.model.name).family != "vit":
        return []
    return [part("vit_names")]


def _fresh(config: ImageTrainConfig) -> str:
    return part("fresh") if len(head_layers(config)) > 1 else "    fresh = HEAD  # the layer that no weights are for"


def _dropout(config: ImageTrainConfig) -> list[str]:
    if catalogue.load(config.model.name).family not in WITHOUT_DROPOUT:
        return [
            "    for layer in model.classifier.modules():",
            "        if isinstance(layer, nn.Dropout):",
            "            layer.p = DROPOUT",
        ]
    if config.dropout == 0:
        return []
    return ["    model.get_submodule(LAST).register_forward_pre_hook(lambda layer, inputs: F.dropout(inputs[0], DROPOUT, layer.training))"]


def _normalises(config: ImageTrainConfig) -> bool:
    """Whether BatchNorm is among what is trained."""
    model = catalogue.load(config.model.name)
    trained = (*model.stages[config.frozen_layers :], model.head)
    return any(tensor.endswith("running_mean") for stage in trained for tensor in stage.tensors)


def set_training(config: ImageTrainConfig) -> str:
    """The function that puts the model into training mode."""
    return part("frozen_training") if config.frozen_layers else part("plain_training")
