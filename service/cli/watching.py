"""`thaw study watch` and `thaw study log`: follows a study or a log."""

import json
import sys
import threading
import time
from collections.abc import Iterable, Iterator

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table

from service.cli.console import assignments, console, number, plain_text, print_json, saved, speed, table, time_left
from service.client import END, Client, Refused, Unreachable
from service.domain.states import TrialState
from service.domain.text import clean
from service.rest_models import AttemptView, ChunkView, ListedStudyView, LogView, StudyView, TrialView
from service.settings import Settings
from trainer.configuration import counted
from trainer.tasks.capabilities import ExternalRunner
from trainer.tasks.registry import spec_of

REDRAW_SECONDS = 0.4
SHOWN_TRIALS = 14
STATES = (
    TrialState.RUNNING,
    TrialState.QUEUED,
    TrialState.COMPLETE,
    TrialState.PRUNED,
    TrialState.FAILED,
    TrialState.CANCELLED,
)


class Watched:
    """The latest state of a study and its trials. A thread receives the events and signals changes."""

    def __init__(self, client: Client, study: ListedStudyView) -> None:
        self._client = client
        self._changed = threading.Event()
        self._failure: Exception | None = None
        self._seen = 0  # sequence number of the last event that `study` and `trials` include
        self.study = study
        self.connected = True
        self.ended = False
        self.trials: dict[int, TrialView] = {}
        self._unreported: dict[int, TrialView] = {}  # changed since the last `refresh`
        self._read()

    def listen(self) -> None:
        """Receive events until the study has ended. Runs in its own thread."""
        try:
            for event in self._client.events(self.study.id, self._seen):
                self.connected = event is not None
                self._changed.set()
        except Exception as error:
            self._failure = error
        self.ended = True
        self._changed.set()

    def refresh(self, timeout: float) -> list[TrialView]:
        """Wait up to `timeout` seconds for a change, and return the changed trials. Raises the error of `listen`, if any."""
        if not self._changed.wait(timeout):
            return []
        self._changed.clear()
        if self._failure is not None:
            raise self._failure
        try:
            self._read()
        except Unreachable:  # the server restarts; `listen` reconnects
            if self.ended:
                raise
            return []
        changed, self._unreported = self._unreported, {}
        return [changed[number] for number in sorted(changed)]

    def _read(self) -> None:
        """Read all changes since the last call, with one request per page of trials."""
        more = True
        while more:
            changes = self._client.changes(self.study.id, self._seen)
            read = {trial.number: trial for trial in changes.trials}
            self.trials |= read
            self._unreported |= read
            self.study, self._seen, more = changes.study, changes.seq, changes.more


def print_events(client: Client, study: StudyView) -> StudyView:
    """Print the study's events as JSON lines until it has ended, then the study, and return it."""
    for event in client.events(study.id):
        if event is not None:
            print_json({"event": event.kind, **event.body}, line=True)
    last = client.study(study.id)
    print_json({"event": END, "study": json.loads(last.model_dump_json())}, line=True)
    return last


def watch(client: Client, study: ListedStudyView) -> ListedStudyView:
    """Show the study until it has ended, and return its final state. Ctrl-C stops watching; the study continues."""
    out = console()
    watched = Watched(client, study)
    threading.Thread(target=watched.listen, name="listen", daemon=True).start()
    show = _show_live if out.is_terminal else _print_ends
    show(out, watched)
    out.print(_summary(watched.study))
    for line in confirmed(client, watched.study):
        out.print(line)
    return watched.study


HEADS = {"running": "confirmed so far", "done": "confirmed", "stopped": "confirmed before the study ended"}


def confirmed(client: Client, study: ListedStudyView) -> Iterator[str]:
    """A line with the confirmed value and its interval; none before the confirmation has a result."""
    verdict = client.confirmation(study.id).verdict if study.phase in HEADS else None
    if verdict is None:
        return
    chosen = next((arm for arm in verdict.arms if arm.trial == verdict.recommended), None)
    if chosen is None or verdict.expected is None:
        if verdict.state != "running":
            yield "not confirmed: no configuration has two runs with a result"
        return
    value, low, high = map(number, (verdict.expected.value, verdict.expected.low, verdict.expected.high))
    task = spec_of(study.spec.task)
    where = "" if isinstance(task, ExternalRunner) else f" on {counted(verdict.test_images, f'test {task.example}')}"
    runs = f"{counted(len(chosen.rounds), 'run')} with fresh seeds{where}"
    yield f"{HEADS[verdict.state]}: {study.metric} {value}, 95 % interval {low} to {high}; trial {chosen.trial}, {runs}"


def round_of(trial: TrialView) -> str:
    """Such as `confirmation, round 1, of trial 3`; empty for a trial of the search."""
    return "" if trial.round is None else f"confirmation, round {trial.round}, of trial {trial.confirms}"


def _show_live(out: Console, watched: Watched) -> None:
    with Live(_view(watched), console=out, auto_refresh=False, transient=False) as live:
        for _ in _changes(watched):
            live.update(_view(watched), refresh=True)
            time.sleep(REDRAW_SECONDS)


def _print_ends(out: Console, watched: Watched) -> None:
    waiting = _print_waiting(out, watched, None)
    printed = _print_ended(out, watched, watched.trials.values(), set())
    for changed in _changes(watched):
        waiting = _print_waiting(out, watched, waiting)
        printed |= _print_ended(out, watched, changed, printed)


def _print_waiting(out: Console, watched: Watched, printed: str | None) -> str | None:
    """Print why no trial runs, unless `printed` is the same sentence; return the sentence."""
    if watched.study.waiting is not None and watched.study.waiting != printed:
        out.print(watched.study.waiting)
    return watched.study.waiting


def _print_ended(out: Console, watched: Watched, trials: Iterable[TrialView], printed: set[int]) -> set[int]:
    """Print a line for each trial that has ended and is not in `printed`; return their numbers."""
    ended = [trial for trial in trials if trial.state.terminal and trial.number not in printed]
    for trial in ended:
        mark = f" ({round_of(trial)})" if trial.round is not None else ""
        out.print(f"trial {trial.number}: {trial.state}, {_result(watched.study, trial)}, {assignments(trial.params)}{mark}")
    return {trial.number for trial in ended}


def _changes(watched: Watched) -> Iterator[list[TrialView]]:
    """Yield the changed trials, at least once a second, until the study has ended and all changes are read. The study may change alone."""
    while True:
        ended = watched.ended  # read before `refresh`, so that the changes of the last event are yielded
        yield watched.refresh(timeout=1.0)
        if ended:
            return


def _view(watched: Watched) -> RenderableType:
    study = watched.study
    counts = ", ".join(f"{study.counts[state]} {state}" for state in STATES if study.counts.get(state))
    left = f", {time_left(study)}" if time_left(study) else ""
    head = f"{study.name}: {study.state}{left}" + ("" if watched.connected else " (server unreachable; retrying)")
    trials = _trials(study, watched.trials.values())
    waiting = [plain_text(study.waiting)] if study.waiting else []
    return Group(plain_text(head, style="bold"), *waiting, _progress(study, counts), plain_text(_best(study)), trials)


def _progress(study: ListedStudyView, counts: str) -> RenderableType:
    most = study.budget.trials
    if most is None:
        return plain_text(counts)
    done = sum(study.counts.get(state, 0) for state in STATES[2:])
    grid = Table.grid(padding=(0, 1))
    grid.add_row(ProgressBar(total=most, completed=done, width=30), plain_text(f"{done}/{most} trials"), plain_text(counts, style="dim"))
    return grid


def _trials(study: ListedStudyView, trials: Iterable[TrialView]) -> Table:
    """A table of the running trials and the newest others."""
    ordered = sorted(trials, key=lambda trial: (trial.state is TrialState.RUNNING, trial.number))[-SHOWN_TRIALS:]
    rows = [_row(study, trial) for trial in sorted(ordered, key=lambda trial: trial.number)]
    return table(("trial", "state", "epoch", study.metric, "parameters", ""), rows)


def _row(study: ListedStudyView, trial: TrialView) -> tuple[str, ...]:
    return str(trial.number), trial.state, str(trial.step), number(_latest(study, trial)), assignments(trial.params), remark(study, trial)


def remark(study: ListedStudyView, trial: TrialView, *, detailed: bool = False) -> str:
    """The last cell of a trial's row: its round of the confirmation, then why it ended or how fast it runs."""
    ended = (trial.detail if detailed else None) or trial.reason
    return "; ".join(filter(None, (round_of(trial), ended or speed(trial, spec_of(study.spec.task).example))))


def _latest(study: ListedStudyView, trial: TrialView) -> float | None:
    return trial.metrics.get(study.metric) if trial.value is None else trial.value


def _result(study: ListedStudyView, trial: TrialView) -> str:
    if trial.state is TrialState.FAILED:
        return f"{trial.reason}: {trial.detail}" if trial.detail else str(trial.reason)
    if trial.duplicate_of is not None:
        return f"{study.metric} {number(trial.value)} as in trial {trial.duplicate_of}"
    return f"{study.metric} {number(_latest(study, trial))} after epoch {trial.step}"


def _best(study: ListedStudyView) -> str:
    if study.best is None:
        return "no complete trial yet"
    return f"best {study.metric} {number(study.best.value)} in trial {study.best.number}: {assignments(study.best.params)}"


def _summary(study: ListedStudyView) -> str:
    reason = f" ({study.reason})" if study.reason else ""
    savings = f"; {saved(study)}" if saved(study) else ""
    return f"The study is {study.state}{reason}; {_best(study)}{savings}."


LOOK_SECONDS = 1.0


def show_log(settings: Settings, name: str, number: int, attempt: int | None, *, follow: bool, as_json: bool) -> None:
    """Print the log of an attempt. With `follow`, continue until the attempt, or the trial if `attempt` is None, has ended."""
    with Client(settings.server, settings.token) as client:
        if as_json and not follow:
            print_json(_whole_log(client, name, number, attempt))
            return
        reader = (JsonReader if as_json else Reader)(client, name, number, attempt)

        def read() -> bool:
            try:
                return reader.read()
            except Refused as error:
                if not follow or not error.temporary:
                    raise
                return False  # the database does not answer at present

        ended = read()
        while follow and not ended:
            time.sleep(LOOK_SECONDS)
            try:
                ended = read()
            except Unreachable:  # the server restarts
                continue


def _whole_log(client: Client, name: str, number: int, attempt: int | None) -> LogView:
    """The log of an attempt, by default the newest, with all its chunks."""
    found = last = client.log(name, number, attempt)
    while last.next is not None:
        last = client.log(name, number, found.attempt, last.next)
        found = last.model_copy(update={"chunks": [*found.chunks, *last.chunks]})
    return found


class Reader:
    """Prints a log and remembers the position."""

    def __init__(self, client: Client, name: str, number: int, attempt: int | None) -> None:
        """`attempt` None: the newest attempt, then later ones."""
        self._client, self._name, self._number = client, name, number
        self._requested = self._attempt = attempt
        self._seen = 0

    def read(self) -> bool:
        """Print what is new. Returns whether the log is complete."""
        # Reads the state before the log: if the trial had ended by then, the log read afterwards is complete.
        ended = self._requested is None and self._client.trial(self._name, self._number).state.terminal
        while True:
            part = self._client.log(self._name, self._number, self._attempt, self._seen)
            self._write(part)
            if part.next is None and not self._advance(part):
                return ended or (self._requested is not None and _has_ended(part, self._requested))

    def _write(self, part: LogView) -> None:
        self._attempt = part.attempt
        for chunk in part.chunks:
            self._write_chunk(chunk)
            self._seen = chunk.seq
        sys.stdout.flush()

    def _write_chunk(self, chunk: ChunkView) -> None:
        sys.stdout.write(clean(chunk.text))

    def _write_start(self, attempt: AttemptView) -> None:
        sys.stdout.write(clean(f"--- attempt {attempt.attempt}, on {attempt.worker}\n"))

    def _advance(self, part: LogView) -> bool:
        """Switch to the next attempt, if there is one. Returns whether there is."""
        if self._requested is not None or part.attempt is None:
            return False
        if not (newer := [info for info in part.attempts if info.attempt > part.attempt]):
            return False
        self._attempt, self._seen = newer[0].attempt, 0
        self._write_start(newer[0])
        return True


class JsonReader(Reader):
    """Prints each part of a log as a JSON line, with its attempt."""

    def _write_chunk(self, chunk: ChunkView) -> None:
        print_json({"attempt": self._attempt, **json.loads(chunk.model_dump_json())}, line=True)

    def _write_start(self, attempt: AttemptView) -> None:
        pass


def _has_ended(part: LogView, attempt: int) -> bool:
    return any(info.ending is not None for info in part.attempts if info.attempt == attempt)
