"""`python -m trainer.data.inspection`: lists and splits a data set as a run does, for `thaw data inspect`.

Reads one JSON object from standard input: `task`, `data`, and optionally `model`, `size` (the value of the hyperparameter that the
task names as its size), `cache` (a folder) and `cache_bytes`. Writes one JSON object to standard output: a Splitting, or
`{"fault": SENTENCE, "code": CODE, "place": PATH}` for data or a model that cannot be used.
"""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trainer.cache import Cache
from trainer.configuration import DataConfig, ModelConfig, TrainConfig
from trainer.data.examples import BadData, UnfitData
from trainer.data.measures import MOST_UNREADABLE, Splitting, Spread
from trainer.models import UnfitModel
from trainer.pipes import read_request
from trainer.tasks.capabilities import MeasuresInput
from trainer.tasks.registry import task_of


def split_of(task_name: str, data: DataConfig, model: ModelConfig | None, size: int | None, cache: Cache) -> Splitting:
    """List and split the data. Raises UnfitData, BadData, and UnfitModel for a model whose input cannot be measured."""
    task = task_of(task_name)
    listing = task.list_examples(data, cache, accepted=False)
    dataset = task.split(data, listing, cache, None)
    found = dataset.duplicate_facts
    measures = task.measure_input(model, dataset) if model is not None and isinstance(task, MeasuresInput) else {}
    note = task.note_of_input(measures, size) if measures and size is not None and isinstance(task, MeasuresInput) else None
    return Splitting(
        notes=() if note is None else (note,),
        parts=dataset.counts,
        distinct=len(dataset.contents),
        fingerprint=dataset.fingerprint,
        split=dataset.split,
        listing=dataset.listing,
        unreadable=listing.unreadable[:MOST_UNREADABLE],
        unreadable_count=len(listing.unreadable),
        duplicates=None if found is None else found.model_dump(mode="json"),
        measures={name: spread for name, values in measures.items() if (spread := Spread.of(values)) is not None},
    )


def _section(task: str, name: str, section: Mapping[str, Any]) -> Any:
    """The section of a run's configuration, as the model of the task."""
    annotation: Any = TrainConfig.of_task(task).model_fields[name].annotation
    return annotation.model_validate(section)


def main() -> None:
    """Answer the question on standard input."""
    asked = read_request()
    task, model = asked["task"], asked.get("model")
    cache = Cache(Path(asked["cache"]), asked["cache_bytes"]) if asked.get("cache") else Cache.none()
    own = None if model is None else _section(task, "model", model)
    try:
        answer = split_of(task, _section(task, "data", asked["data"]), own, asked.get("size"), cache).model_dump_json()
    except (UnfitData, BadData) as error:
        answer = json.dumps({"fault": str(error), "code": "bad_data", "place": ["data"]})
    except UnfitModel as error:
        answer = json.dumps({"fault": str(error), "code": "unfit_model", "place": ["model", "name"]})
    sys.stdout.write(f"{answer}\n")


if __name__ == "__main__":
    main()
