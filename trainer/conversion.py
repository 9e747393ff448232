"""Converts exported models to ONNX and to int8. `python -m trainer.conversion` does it for `thaw convert`.

Reads one JSON object from standard input: `folder` (of the model), `facts` (of its config.yaml), `out` (a folder for the file), `to` (onnx
or int8), and for int8 the `metric`, and either `data` (a section with a file of labelled examples) or `manifest` (of the study's data).
Writes the file, and as JSON the report to standard output; or `fault` and the `field` of the data.

A file is kept only if onnxruntime computes the outputs that torch computes. int8 is the dynamic quantization of onnxruntime: weights are
stored as int8, and activations are quantized by their range in each batch, so that no examples are needed for it. torch's own quantization
has no file that other programs run.
"""

import json
import logging
import math
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import stdev
from typing import Any, Literal

import torch
from scipy import stats
from torch import Tensor, nn

from trainer.cache import Cache
from trainer.configuration import DataConfig, DatasetInfo
from trainer.data.examples import BadData, InputRow, Look, MissingData, UnfitData, enumerated
from trainer.models import UnfitModel
from trainer.pipes import read_request
from trainer.prediction import ExportedModel, gathered
from trainer.preparation import Expected, load_data
from trainer.tasks.base import Examples, Measurement
from trainer.tasks.capabilities import Graph, PerExample, Portable
from trainer.tasks.registry import spec_of

Kind = Literal["onnx", "int8"]
FILES: Mapping[Kind, str] = {"onnx": "model.onnx", "int8": "model.int8.onnx"}
FORMAT = "thawline/onnx-1"
TOLERANCE = 1e-3  # largest difference of an output, in units of the largest output if that is above 1
TRIED: tuple[tuple[int, ...], ...] = ((5,), (1, 2), (3, 17, 64), (128,), (2, 9, 30, 31, 7, 512))  # sizes of the examples of random batches
MOST_BYTES = 3 * 2**29  # of weights: a file has at most 2 GB, and torch writes larger ones as several files
LEVEL = 0.95
TIMED_SECONDS = 10.0  # at least one pass over the examples is timed
NEEDS = 'ONNX needs packages that are not installed: pip install "thawline[onnx]"'


class Final(nn.Module):
    """The graph with its second output: probabilities as float32, or numbers in the unit of the data as float64."""

    def __init__(self, model: ExportedModel, graph: Graph) -> None:
        super().__init__()
        self.inner, self._model = graph.module, (model,)  # a name that torch's own modules do not have

    def forward(self, *inputs: Tensor) -> tuple[Tensor, Tensor]:
        (model,) = self._model
        outputs = self.inner(*inputs)
        final = model.task.final(outputs, model.info)
        return outputs, final.float() if model.task.probability_names(model.info) else final


class Runtime:
    """A file that onnxruntime runs on the CPU."""

    def __init__(self, file: Path) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3  # errors
        options.intra_op_num_threads = torch.get_num_threads()
        self._session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
        self._names = [one.name for one in self._session.get_inputs()]

    def __call__(self, graph: Graph, inputs: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """The outputs for the inputs of the graph. The file lacks inputs that the model does not use."""
        named = dict(zip(graph.inputs, inputs, strict=True))
        outputs, final = self._session.run(None, {name: named[name].numpy() for name in self._names})
        return torch.from_numpy(outputs), torch.from_numpy(final)


class Labelled:
    """Examples with targets, on which a metric is measured."""

    def __init__(self, examples: Examples, rows: Tensor, targets: Tensor, name: str, unused: Sequence[str] = ()) -> None:
        self.examples, self.rows, self.targets = examples, rows, targets  # targets [N, ...] of the rows [N]
        self.name, self.unused = name, unused  # of the data; and rows that cannot be used, with the reasons

    @classmethod
    def of_file(cls, model: ExportedModel, data: DataConfig) -> "Labelled":
        """The rows of a file that can be used. Raises UnfitData, BadData."""
        rows, targets, unused = list[InputRow](), list[Tensor](), list[str]()
        for row in model.task.input_rows(data, Look(), targets=True):
            try:
                if row.fault is None:
                    targets.append(model.task.encoded(row.target, model.info))
                    rows.append(row)
                else:
                    unused.append(f"{row.name}: {row.fault}")
            except ValueError as error:
                unused.append(f"{row.name}: {error}")
        contents, config = [row.content for row in rows], model.of_data(data).config
        examples, reasons = model.task.inputs(contents, config, model.info, model.device) if rows else (None, ())
        unused += [f"{row.name}: {reason}" for row, reason in zip(rows, reasons, strict=True) if reason is not None]
        if examples is None:
            why = f": {enumerated(unused)}" if unused else ""
            raise UnfitData("empty_data", f"no row of {Path(data.path).name} can be used{why}")
        kept = [target for target, reason in zip(targets, reasons, strict=True) if reason is None]
        return cls(examples, torch.arange(len(kept)), torch.stack(kept), Path(data.path).name, unused)

    @classmethod
    def of_study(cls, model: ExportedModel, manifest: str | None, cache: Cache) -> "Labelled":
        """The test part of the data that the model was trained on, or the validation part if there is none. Raises BadData."""
        try:
            _, dataset = load_data(model.task, model.config, Expected(model.info, manifest), cache)
        except MissingData as error:
            raise MissingData(f"{error}; or give labelled examples: --data path=FILE") from None
        part: Literal["test", "validation"] = "test" if dataset.counts["test"] else "validation"
        own = dataset.only(part)
        kept = torch.tensor([row for row, content in enumerate(dataset.contents) if content.part == part])
        rows = torch.tensor(own.rows(part))
        examples = model.task.examples(own, model.config, model.device, cache)
        return cls(examples, rows, model.task.targets(dataset)[kept][rows], f"the study's {part} part")


def convert(model: ExportedModel, folder: Path, kind: Kind, labelled: Labelled | None = None, metric: str = "") -> dict[str, Any]:
    """Write the file of that kind into the folder, and return the report about it. `labelled` is needed for int8.

    Raises UnfitModel if the outputs of the file are not those of the model, and OSError.
    """
    if not isinstance(model.task, Portable):
        raise UnfitModel(f"models of the task {model.config.task} cannot be converted")
    graph = model.task.graph(model.model, model.config)
    weights = sum(tensor.nbytes for tensor in model.model.network.state_dict().values())
    if weights > MOST_BYTES:
        raise UnfitModel(f"the model has {weights / 1e9:.1f} GB of weights, and at most {MOST_BYTES / 1e9:.1f} GB fit into an ONNX file")
    with tempfile.TemporaryDirectory(dir=folder, prefix=".convert-") as partial:
        plain, small = Path(partial, FILES["onnx"]), Path(partial, FILES["int8"])
        write(model, graph, plain)
        report: dict[str, Any] = {"largest_difference": largest_difference(model, graph, plain), "tolerance": TOLERANCE}
        if kind == "int8":
            if labelled is None:
                raise ValueError("int8 needs labelled examples")
            quantize(plain, small)
            report |= compared(model, graph, labelled, metric, plain, small)
        written = small if kind == "int8" else plain
        report["bytes"] = _describe(written, model, graph, kind, report)
        written.replace(folder / FILES[kind])
    return {"file": FILES[kind], **report}


def write(model: ExportedModel, graph: Graph, file: Path) -> None:
    """Write the model as ONNX, with dynamic axes and without inputs that it does not use.

    Raises UnfitModel if torch cannot export the network, and OSError.
    """
    try:
        _export(model, graph, file)
    except (MemoryError, OSError):
        raise
    except Exception as error:  # the exporter raises many types for operations that it cannot translate
        raise UnfitModel(
            f"torch {torch.__version__} cannot export a model of type {graph.network} as ONNX ({_line(error)}); "
            "use `thaw predict` in place of a file, or train a model of another type"
        ) from None


def _line(error: BaseException) -> str:
    """The first line of the innermost cause. The exporter's own message is a long text with colours."""
    while (cause := error.__cause__ or error.__context__) is not None:
        error = cause
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]


def _export(model: ExportedModel, graph: Graph, file: Path) -> None:
    example = graph.random_inputs((7, 11, 5), torch.Generator().manual_seed(0))
    names = ["outputs", "probabilities" if model.task.probability_names(model.info) else "value"]
    with quiet():
        program = torch.onnx.export(
            Final(model, graph).eval(),
            example,
            input_names=list(graph.inputs),
            output_names=names,
            dynamic_shapes=(tuple(dict(axes) for axes in graph.inputs.values()),),  # the inputs are variable positional arguments
            dynamo=True,
            verbose=False,
        )
        if program is None:
            raise RuntimeError("torch.onnx.export returned nothing")
        inputs: Any = program.model.graph.inputs
        for unused in [one for one in inputs if not one.uses()]:
            inputs.remove(unused)
        program.save(file, external_data=False)


def largest_difference(model: ExportedModel, graph: Graph, file: Path) -> float:
    """The largest difference between the outputs of the file and the model on random batches of several sizes, in the unit of TOLERANCE.

    Each example is also computed alone, without the padding that the longest of its batch asks for. Raises UnfitModel above TOLERANCE.
    """
    runtime, generator, found = Runtime(file), torch.Generator().manual_seed(1), list[float]()
    for sizes in TRIED:
        inputs = graph.random_inputs(sizes, generator)
        with torch.no_grad():
            outputs = graph.module(*inputs)
        wanted = outputs, model.task.final(outputs, model.info)
        found += map(_difference, runtime(graph, inputs), wanted)
        for place, size in enumerate(sizes):
            alone = tuple(
                tensor[place : place + 1, :size] if 1 in axes else tensor[place : place + 1]
                for tensor, axes in zip(inputs, graph.inputs.values(), strict=True)
            )
            found += map(_difference, runtime(graph, alone), [one[place : place + 1] for one in wanted])
    largest = math.nan if any(math.isnan(one) for one in found) else max(found)
    if not largest <= TOLERANCE:
        raise UnfitModel(
            f"the ONNX file computes other outputs than the model, of type {graph.network}: they differ by up to {largest:.3g}, more than "
            f"{TOLERANCE:g} of the largest output; the file was deleted. Use `thaw predict` in place of a file, and please report this "
            f"message with the configuration; torch is {torch.__version__}"
        )
    return largest


def _difference(found: Tensor, wanted: Tensor) -> float:
    """The largest absolute difference, divided by the largest value wanted if that is above 1; NaN if an output is."""
    if found.shape != wanted.shape:
        return math.inf
    return float((found.double() - wanted.double()).abs().max() / max(1.0, float(wanted.abs().max())))


def quantize(plain: Path, small: Path) -> None:
    """Quantize the weights of the file's matrix products and convolutions to int8."""
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    # onnxruntime has no integer convolution for signed weights. Signed ones are scaled for each channel, and have 7 bits: with 8 the
    # sums of processors without VNNI saturate, so that results would differ between machines.
    convolves = any(node.op_type == "Conv" for node in onnx.load(plain).graph.node)
    with quiet():
        quantize_dynamic(
            plain,
            small,
            weight_type=QuantType.QUInt8 if convolves else QuantType.QInt8,
            per_channel=not convolves,
            reduce_range=not convolves,
        )


def compared(model: ExportedModel, graph: Graph, labelled: Labelled, metric: str, plain: Path, small: Path) -> dict[str, Any]:
    """The metric, the size and the speed of both files.

    Raises UnfitModel if an output of the small one is not finite, and for too many examples for the metric.
    """
    runtimes = Runtime(plain), Runtime(small)
    batches = [(places, graph.of(labelled.examples, rows)) for places, rows in model.batches(labelled.examples, labelled.rows)]
    outputs = [gathered([(places, runtime(graph, inputs)[0]) for places, inputs in batches]) for runtime in runtimes]
    if not all(bool(own.isfinite().all()) for own in outputs):
        raise UnfitModel("the outputs of the int8 file are not all finite numbers; the file was deleted")
    before, after = (_measured(model, own, labelled.targets) for own in outputs)
    if metric not in before.metrics:
        raise UnfitModel(f"{metric} is not computed for as many as {len(labelled.rows):,} examples; give fewer: --data path=FILE")
    seconds = _seconds(graph, runtimes, [inputs for _, inputs in batches])
    answers = [model.task.answers(own, model.info, model.decision) for own in outputs]
    named = model.task.probability_names(model.info)
    return {
        "metric": metric,
        "data": labelled.name,
        "examples": len(labelled.rows),
        "unused": {"count": len(labelled.unused), "examples": enumerated(labelled.unused)} if labelled.unused else None,
        "before": before.metrics[metric],
        "after": after.metrics[metric],
        "difference": after.metrics[metric] - before.metrics[metric],
        "interval": _interval(model.config.task, before, after, metric),
        "changed": sum(one != other for one, other in zip(*answers, strict=True)) if named else None,
        "bytes_before": plain.stat().st_size,
        "milliseconds_before": 1000 * seconds[0] / len(labelled.rows),
        "milliseconds": 1000 * seconds[1] / len(labelled.rows),
        "threads": torch.get_num_threads(),
    }


def _measured(model: ExportedModel, outputs: Tensor, targets: Tensor) -> Measurement:
    width = model.task.tally_width(len(targets), model.info)
    tallies = model.task.tally(outputs, targets)[None, :, :width]
    (found,) = model.task.measure(tallies, targets, model.info, examples=True, decisions=[model.decision])
    return found


def _interval(task: str, before: Measurement, after: Measurement, metric: str) -> tuple[float, float] | None:
    """The interval of the difference for new examples: paired by example, by Student's t.

    None where examples have no scores of the metric, and if all scores are equal, since the spread of the differences is then not known.
    """
    spec = spec_of(task)
    if not isinstance(spec, PerExample):
        return None
    scores = [spec.examples(one.report()) for one in (before, after)]
    own = [one.scores(metric) for one in scores if one is not None and one.has_scores(metric)]
    if len(own) < 2 or len(own[0]) < 2:
        return None
    each = (own[1] - own[0]).tolist()
    if not any(each):
        return None
    half = float(stats.t.ppf((1 + LEVEL) / 2, len(each) - 1)) * stdev(each) / math.sqrt(len(each))
    difference = after.metrics[metric] - before.metrics[metric]
    return difference - half, difference + half


def _seconds(graph: Graph, runtimes: Sequence[Runtime], batches: Sequence[Sequence[Tensor]]) -> list[float]:
    """The shortest time of each runtime for a pass over all batches; the runtimes take turns."""
    found, started = [math.inf] * len(runtimes), time.perf_counter()
    while math.isinf(found[-1]) or time.perf_counter() - started < TIMED_SECONDS:
        for place, runtime in enumerate(runtimes):
            before = time.perf_counter()
            for inputs in batches:
                runtime(graph, inputs)
            found[place] = min(found[place], time.perf_counter() - before)
    return found


def _describe(file: Path, model: ExportedModel, graph: Graph, kind: Kind, report: Mapping[str, Any]) -> int:
    """Write what other programs need to use the file, and the report, into its metadata. Returns its size."""
    import onnx

    loaded = onnx.load(file)
    described = {
        "format": FORMAT,
        "kind": kind,
        "task": model.config.task,
        **model.task.metadata(model.info, model.decision),
        "preprocessing": json.dumps(graph.preprocessing),
        "report": json.dumps(report),
        "config": model.trained.model_dump_json(),
    }
    onnx.helper.set_model_props(loaded, described)
    onnx.save(loaded, file)
    return file.stat().st_size


@contextmanager
def quiet() -> Iterator[None]:
    """Suppresses reports and warnings of the exporter and the quantizer, which concern their own code."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        before = logging.root.manager.disable
        logging.disable(logging.WARNING)
        try:
            yield
        finally:
            logging.disable(before)


def main() -> None:
    """Answer the request on standard input."""
    asked = read_request()
    try:
        report = _answered(asked)
        sys.stdout.write(f"{json.dumps({'report': report})}\n")
    except (UnfitData, BadData, UnfitModel) as error:
        field = error.place if isinstance(error, UnfitData) else ()
        sys.stdout.write(f"{json.dumps({'fault': str(error), 'field': field})}\n")


def _answered(asked: Mapping[str, Any]) -> dict[str, Any]:
    try:
        import onnx
        import onnxruntime
        import onnxscript
    except ImportError as error:
        raise UnfitModel(f"{NEEDS} ({error.name} is missing)") from None
    del onnx, onnxruntime, onnxscript
    folder, info = Path(asked["folder"]), DatasetInfo.model_validate(asked["facts"])
    model = ExportedModel.read(folder, info, torch.device("cpu"))
    labelled = None
    if asked["to"] == "int8" and asked.get("data") is not None:
        labelled = Labelled.of_file(model, type(model.config.data).model_validate(asked["data"]))
    elif asked["to"] == "int8":
        cache = Cache(Path(asked["cache"]), asked["cache_bytes"]) if asked.get("cache") else Cache.none()
        labelled = Labelled.of_study(model, asked.get("manifest"), cache)
    try:
        return convert(model, Path(asked["out"]), asked["to"], labelled, asked["metric"])
    except OSError as error:
        raise UnfitModel(f"the ONNX file cannot be written: {error.strerror or error}") from None


if __name__ == "__main__":
    main()
