"""`thaw models inspect`: describes a model folder without loading it."""

from pathlib import Path
from typing import Any

from service.cli.console import FaultyFile, console, print_json, table
from trainer.backbones.description import TextModelInfo, UnfitFolder, describe_folder, digest


def inspect_model(folder: Path, as_json: bool) -> None:
    """Print the model in the folder. Raises FaultyFile if it cannot be trained; as JSON the fault is in the output too."""
    try:
        info, sha256 = describe_folder(folder), digest(folder)
    except UnfitFolder as error:
        if as_json:
            print_json({"faults": [{"code": error.code, "message": str(error)}]})
        raise FaultyFile(folder, (("", str(error)),)) from None
    if as_json:
        print_json(document(info, sha256))
        return
    facts = (
        ("type", info.model_type),
        ("hidden size", f"{info.hidden_size:,}"),
        ("longest text", "no limit" if info.positions is None else f"{info.positions:,} tokens"),
        ("vocabulary", f"{info.vocabulary:,} tokens"),
        ("tokenizer", f"{info.tokenizer}, {info.tokens:,} tokens"),
        ("weights", f"{', '.join(info.weight_files)} ({', '.join(info.dtypes)})"),
        ("license", info.license or "not stated"),
        ("SHA-256", sha256),
    )
    console().print(table(("model", str(folder)), facts))
    console().print("")
    rows = [
        (str(place), *row) for place, row in enumerate(zip(info.stage_names, map("{:,}".format, info.stage_parameters), strict=True), 1)
    ]
    console().print(table(("frozen_layers", "up to stage", "parameters"), [*rows, ("", "all", f"{sum(info.stage_parameters):,}")]))


def document(info: TextModelInfo, sha256: str) -> dict[str, Any]:
    """The description as JSON."""
    return {
        "type": info.model_type,
        "hidden_size": info.hidden_size,
        "positions": info.positions,
        "vocabulary": info.vocabulary,
        "tokenizer": {"algorithm": info.tokenizer, "tokens": info.tokens},
        "weights": {"files": [*info.weight_files], "dtypes": [*info.dtypes]},
        "license": info.license,
        "sha256": sha256,
        "stages": [
            {"name": name, "parameters": parameters} for name, parameters in zip(info.stage_names, info.stage_parameters, strict=True)
        ],
        "faults": [],
    }
