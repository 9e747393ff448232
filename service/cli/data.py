"""`thaw data inspect`: what a study would read of its data, without a server."""

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from search_spaces import Fault
from service.cli.console import Failure, FaultyFile, console, print_json, table
from service.cli.files import read_document
from service.cli.processes import has_torch
from service.domain.errors import InvalidInput
from service.domain.fault_messages import faults_of, unknown_task
from service.domain.parsing import examine, without_replace
from service.domain.spec import TrainingStudy
from service.inspection import count_faults, sizes
from service.settings import Settings
from trainer.configuration import FIRST_TASK, DataConfig, ListingFacts, ModelConfig, Part, TrainConfig, counted, resolve_paths
from trainer.data.examples import Look, UnfitData
from trainer.data.measures import Splitting, Spread
from trainer.data.targets import LABELS_OF_EXAMPLE
from trainer.tasks.base import Counted
from trainer.tasks.capabilities import InspectedData, InspectsData
from trainer.tasks.registry import spec_of, specs

MOST_LABELS = 100  # in the table; JSON has all
PARTS: tuple[Part, ...] = ("train", "validation", "test")
QUICK = "Duplicates and the exact split were not computed, because torch is not installed here."


def inspect_data(settings: Settings, file: Path | None, task: str | None, fields: Sequence[str], *, as_json: bool, quick: bool) -> None:
    """Print what would be read. Raises FaultyFile with the faults of the data, InvalidInput, Failure."""
    document = _document(file, task, fields)
    name = str(document["task"])
    if name not in specs():
        raise InvalidInput([unknown_task(("task",))])
    data, model = _sections(document, file)
    faults, counts, found = _listed(name, data)
    others, size = ([], None) if file is None else _other_sections(document)
    splitting = None
    if not faults and not quick and has_torch():
        model = None if any(fault.path[:1] == ("model",) for fault in others) else model
        splitting, fault = _split(settings, name, data, model, size)
        faults += [] if fault is None else [fault]
    faults += [fault for fault in others if fault.pointer not in {one.pointer for one in faults}]
    if as_json:
        answer = _as_json(name, data, counts, found, splitting, faults)
        print_json(answer)
    elif counts is not None:
        _print(name, data, counts, found, splitting)
        if splitting is None and not faults and not quick:
            console().print(QUICK)
    if faults:
        raise FaultyFile(file or Path(data.path), tuple((fault.pointer, fault.message) for fault in faults))


def _document(file: Path | None, task: str | None, fields: Sequence[str]) -> dict[str, Any]:
    """The study document, or one of the task and the data fields alone; fields replace those of the document."""
    found = read_document(file) if file is not None else {}
    if not isinstance(found, dict):
        raise Failure(f"{file} is no study file: it holds no mapping of fields.")
    given = resolve_paths({"task": task or found.get("task", FIRST_TASK), "data": fields_of(fields)}, Path.cwd())
    section = found.get("data")
    base: dict[str, Any] = section if isinstance(section, dict) else {}
    own: dict[str, Any] = given["data"] if isinstance(given, dict) else {}
    return {**found, "task": task or found.get("task", FIRST_TASK), "data": merged(base, own)}


def fields_of(pairs: Sequence[str]) -> dict[str, Any]:
    """Nested fields from `key=value` and `key.key=value`; the value `null` is None."""
    found = dict[str, Any]()
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not key or not equals:
            raise Failure(f"--data {pair} is no KEY=VALUE, such as --data path=train.csv.")
        *above, last = key.split(".")
        section = found
        for name in above:
            section = section.setdefault(name, {})
            if not isinstance(section, dict):
                raise Failure(f"--data {key}: {name} has a value already.")
        section[last] = None if value == "null" else value
    return found


def merged(base: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    nested = {
        name: merged(base[name], value) for name, value in own.items() if isinstance(value, dict) and isinstance(base.get(name), dict)
    }
    return {**base, **own, **nested}


def _sections(document: Mapping[str, Any], file: Path | None) -> tuple[DataConfig, ModelConfig | None]:
    """The data of the document, and its model if it has one. Raises FaultyFile with the faults of the data."""
    fields = TrainConfig.of_task(str(document["task"])).model_fields
    data_type: Any = fields["data"].annotation
    model_type: Any = fields["model"].annotation
    try:
        data: DataConfig = data_type.model_validate(document["data"])
    except ValidationError as error:
        faults = [fault.below(("data",)) for item in error.errors() for fault in faults_of(item)]
        raise FaultyFile(file or Path("--data"), tuple((fault.pointer, fault.message) for fault in faults)) from None
    try:
        return data, model_type.model_validate(document["model"]) if document.get("model") is not None else None
    except ValidationError:  # `thaw study create` reports it
        return data, None


def _other_sections(document: Mapping[str, Any]) -> tuple[list[Fault], int | None]:
    """The faults of the sections beside the data, of which any may be missing, and the largest value of the task's `size`."""
    found = examine(without_replace(document)[0])
    faults = [fault for fault in found.faults if fault.path[:1] != ("data",) and (fault.code, len(fault.path)) != ("missing", 1)]
    size = spec_of(str(document["task"])).size
    if size is None or size in found.stand_ins or not isinstance(found.spec, TrainingStudy):
        return faults, None
    return faults, max(int(value) for _, value in found.spec.extremes(size))


def _listed(task: str, data: DataConfig) -> tuple[list[Fault], Counted | None, InspectedData | None]:
    """The faults that a server would find, the counts by stratum, and what the task finds beside them."""
    spec = spec_of(task)
    try:
        counts = spec.count(data, Look())
        found = spec.inspect_data(data, Look()) if isinstance(spec, InspectsData) else None
    except UnfitData as error:
        return [Fault(error.place, error.code, str(error))], None, None
    return list(count_faults(task, data, counts)), counts, found


def _split(
    settings: Settings, task: str, data: DataConfig, model: ModelConfig | None, size: int | None
) -> tuple[Splitting | None, Fault | None]:
    """The split that a run would compute, or its fault, computed by a process with torch."""
    request = {
        "task": task,
        "data": data.model_dump(mode="json"),
        "model": None if model is None else model.model_dump(mode="json"),
        "size": size,
        "cache": str(settings.home / "cache"),
        "cache_bytes": settings.cache_bytes,
    }
    command = [sys.executable, "-P", "-m", "trainer.data.inspection"]
    done = subprocess.run(command, input=json.dumps(request), stdout=subprocess.PIPE, text=True, check=False)  # noqa: S603
    if done.returncode != 0:
        raise Failure(f"The data cannot be split: {' '.join(command)} ended with {done.returncode}.")
    answer = json.loads(done.stdout.splitlines()[-1])
    if "fault" in answer:
        return None, Fault(tuple(answer["place"]), answer["code"], answer["fault"])
    return Splitting.model_validate(answer), None


def _as_json(
    task: str, data: DataConfig, counts: Counted | None, found: InspectedData | None, splitting: Splitting | None, faults: Sequence[Fault]
) -> dict[str, Any]:
    listing = _listing(found, splitting)
    return {
        "task": task,
        "data": data.model_dump(mode="json"),
        "examples": None if counts is None else sum(own.total() for own in counts.counts.values()),
        "given": None if counts is None else list(counts.given),
        "parts": None if counts is None else _parts(data, counts, splitting),
        "strata": None if counts is None else {name: _by_part(own) for name, own in counts.counts.items()},
        "labels": None if found is None else {name: _by_part(own) for name, own in found.labels.items()},
        "measures": {name: spread.model_dump() for name, spread in _measures(found, splitting)},
        "duplicates": None if splitting is None else splitting.duplicates,
        "distinct": None if splitting is None else splitting.distinct,
        "fingerprint": None if splitting is None else splitting.fingerprint,
        "split": None if splitting is None else splitting.split,
        "unreadable": None if splitting is None else {"count": splitting.unreadable_count, "examples": list(splitting.unreadable)},
        "notes": [] if splitting is None else list(splitting.notes),
        "listing": None if listing is None else listing.model_dump(mode="json"),
        "faults": [{"pointer": fault.pointer, "code": fault.code, "message": fault.message} for fault in faults],
    }


def _by_part(counts: Mapping[Part | None, int]) -> dict[str, int]:
    """Counts by part; `all` for data without a split of its own."""
    return {part or "all": count for part, count in counts.items()}


def _parts(data: DataConfig, counts: Counted, splitting: Splitting | None) -> dict[str, int]:
    """The number of examples in each part; without torch that of a split in which no two examples are alike."""
    if splitting is not None:
        return dict(splitting.parts)
    found: dict[str, int] = dict.fromkeys(PARTS, 0)
    for own in counts.counts.values():
        for part, size in zip(PARTS, sizes(data, counts, own), strict=True):
            found[part] += size if part == "train" or part not in counts.given else own[part]
    return found


def _measures(found: InspectedData | None, splitting: Splitting | None) -> Iterator[tuple[str, Spread]]:
    for name, values in ({} if found is None else found.measures).items():
        if (spread := Spread.of(values)) is not None:
            yield name, spread
    yield from ({} if splitting is None else splitting.measures).items()


def _listing(found: InspectedData | None, splitting: Splitting | None) -> ListingFacts | None:
    if splitting is not None:
        return splitting.listing
    return None if found is None else found.listing


def _print(task: str, data: DataConfig, counts: Counted, found: InspectedData | None, splitting: Splitting | None) -> None:
    out, example = console(), spec_of(task).example
    total = sum(own.total() for own in counts.counts.values())
    origin = f"the data's own split has {', '.join(counts.given)}" if counts.given else "the split is drawn"
    out.print(f"{', '.join(data.paths)}: {counted(total, example)} for {task}; {origin}")
    parts = _parts(data, counts, splitting)
    out.print(table(("part", f"{example}s"), [(part, f"{count:,}") for part, count in parts.items()]))
    labels: Mapping[str, Mapping[Part | None, int]] = counts.counts if found is None else found.labels
    if labels:
        first = f", the first {MOST_LABELS} of them" if len(labels) > MOST_LABELS else ""
        out.print(f"\n{counted(len(labels), 'label')}{first}")
        columns = [part for part in (None, *PARTS) if any(part in own for own in labels.values())]
        rows = [(name, *(f"{own.get(part, 0):,}" for part in columns)) for name, own in [*labels.items()][:MOST_LABELS]]
        out.print(table(("label", *(part or f"{example}s" for part in columns)), rows))
    if measures := list(_measures(found, splitting)):
        rows = [(name, *(f"{value:,.6g}" for value in (one.least, one.median, one.p95, one.most))) for name, one in measures]
        out.print("")
        out.print(table(("", "least", "median", "95 %", "most"), rows))
    if found is not None and (empty := [*found.measures.get(LABELS_OF_EXAMPLE, ())].count(0)):
        out.print(f"{counted(empty, f'{example} has', f'{example}s have')} no label.")
    for sentence in _sentences(_listing(found, splitting), splitting, example):
        out.print(sentence)


def _sentences(listing: ListingFacts | None, splitting: Splitting | None, example: str) -> Iterator[str]:
    if splitting is not None:
        yield f"{counted(splitting.distinct, f'different {example}')}."
        if (found := splitting.duplicates) is not None:
            divided = f"{found['crossing']:,} would have been divided; {counted(found['mixed'], 'has', 'have')} more than one target"
            yield f"{counted(found['groups'], 'group')} of near-duplicates: {divided}." if found["groups"] else "No near-duplicates."
            if found.get("across"):
                yield f"{counted(found['across'], 'group lies', 'groups lie')} in several parts of the data's own split."
        if splitting.unreadable_count:
            files = counted(splitting.unreadable_count, "file that cannot be read is", "files that cannot be read are")
            yield f"{files} left out: {'; '.join(splitting.unreadable)}"
        yield from splitting.notes
    if listing is not None:
        yield from listing.sentences()
