"""How a run goes, as bars on a terminal, or a line an epoch where there is none."""

from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from service.cli.console import console
from service.worker.process import Line
from trainer import protocol


class Bars:
    """A bar for the epochs and one for the batches of the epoch under way."""

    def __init__(self, epochs: int, metric: str, example: str) -> None:
        self._console = console()
        self._epochs, self._metric, self._example = epochs, metric, example
        self._progress = Progress(
            TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed}/{task.total}"), TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"), console=self._console, disable=not self._console.is_terminal,
        )  # fmt: skip
        self._epoch_bar: TaskID = self._progress.add_task("epochs", total=epochs, note="")
        self._batch_bar: TaskID = self._progress.add_task("batches", total=None, note="preparing data and model")

    def __enter__(self) -> "Bars":
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def show(self, line: Line | None) -> None:
        """Take in what the trainer told."""
        match line:
            case protocol.Prepared():
                self._progress.update(self._batch_bar, note="")
                examples = f"{line.facts.sizes['train']:,} {self._example}s"
                self._console.print(f"{line.trainable:,} of {line.parameters:,} parameters are trained on {examples}")
            case protocol.Advanced():
                note = f"{line.samples_per_second:.0f} {self._example}s/s"
                self._progress.update(self._batch_bar, total=line.batches, completed=line.batch, note=note)
            case protocol.Measured():
                value = line.metrics.get(self._metric)
                note = "" if value is None else f"{self._metric} {value:.4f}"
                self._progress.update(self._epoch_bar, completed=line.step, note=note)
                if not self._console.is_terminal:
                    self._console.print(f"epoch {line.step}/{self._epochs}: {note}")
            case _:
                pass
