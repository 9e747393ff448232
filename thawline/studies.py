"""A server and its studies, for scripts and notebooks."""

import json
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace as replace_fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from search_spaces import Fault, Faulty, Scalar
from search_spaces.documents import from_file, from_yaml
from service import client as rest
from service.domain.errors import InvalidInput
from service.domain.export import Exported, read_export
from service.domain.records import Event
from service.domain.states import StudyState
from service.rest_models import ConfirmationView, ListedStudyView, StudyView, TrialView
from service.settings import Settings
from thawline.claims import NothingToClaim, Trial, claimed
from trainer.configuration import counted, resolve_paths

if TYPE_CHECKING:
    import pandas
    from plotly.graph_objects import Figure

POLL_SECONDS = 1.0  # between two looks at a study that is waited for


class Client:
    """A Thawline server.

    The methods, and those of `Study`, raise `Unreachable` if no server answers, `Refused` if the server refuses the call (with its
    `status`, its `kind` such as study-not-found, and the `faults` of a document), and `UnexpectedAnswer` if the server's version differs
    too much. All of them are `ThawlineError`.
    """

    def __init__(self, url: str | None = None, token: str | None = None) -> None:
        """Opens no connection yet.

        Args:
            url: address of the server; by default THAW_SERVER, or else http://127.0.0.1:8000.
            token: token of the server; by default THAW_TOKEN, or else none.

        Raises:
            InvalidInput: the token, or another THAW_ variable of the environment, cannot be valid.
        """
        settings = Settings.from_environment(server=url, token=token)
        self._rest = rest.Client(settings.server, settings.token)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections to the server."""
        self._rest.close()

    @property
    def url(self) -> str:
        """The address of the server."""
        return self._rest.server

    def create(self, study: Mapping[str, Any] | str | os.PathLike[str], *, replace: bool = False) -> "Study":
        """Create a study, which starts as soon as a worker is free.

        Args:
            study: a dict; or the text of a study file in YAML, which has several lines or begins with a brace; or the path of a file, in
                YAML or (.json) in JSON. As in `thaw study create`, relative paths in a file start at the file's folder; those in a dict
                or a text start at the current folder.
            replace: give an ended study of the same name another name first.

        Raises:
            InvalidInput: the file or the text cannot be read.
            Refused: the server does not accept the study; `faults` name the fields and the remedies.
        """
        return Study(self._rest, self._rest.create_study(_document(study), replace=replace))

    def study(self, study: str) -> "Study":
        """The study with this name or id. Raises Refused of the kind study-not-found."""
        return Study(self._rest, self._rest.study(study))

    def studies(self) -> "list[Study]":
        """All studies, newest first."""
        return [Study(self._rest, view) for view in self._rest.studies()]

    def __repr__(self) -> str:
        return f"<Client of {self.url}>"


class Study:
    """A study on a server."""

    def __init__(self, client: rest.Client, info: ListedStudyView) -> None:
        """Use `Client.create`, `Client.study` or `Client.studies`."""
        self._rest = client
        self.info = info  # the state of the study when it was last read
        self.id = info.id

    @property
    def name(self) -> str:
        """The study's name when it was last read."""
        return self.info.name

    @property
    def state(self) -> StudyState:
        """The study's state when it was last read: active, paused, stopped, complete or failed."""
        return self.info.state

    @property
    def url(self) -> str:
        """The address of the study's page."""
        return f"{self._rest.server}/studies/{self.id}"

    def refresh(self) -> StudyView:
        """Read the study again. Returns the new `info`, with the facts about its data."""
        return self._read(self._rest.study(self.id))

    def watch(self, after: int = 0) -> Iterator[Event]:
        """Yield the events after number `after`, each once and in order, and wait for new ones until the study has ended.

        A broken connection is opened again at the place where it broke, also after a restart of the server. `after=study.info.seq`
        leaves out the events before `study` was last read. A paused study does not end.
        """
        self.refresh()  # raises for an unreachable server or a deleted study; later interruptions are waited for
        for event in self._rest.events(self.id, after):
            if event is not None:
                yield event
        self._refresh_if_possible()

    def wait(self, timeout: float | None = None) -> Self:
        """Wait until the study is complete, stopped or failed, and return it. The server may be restarted meanwhile.

        Raises:
            TimeoutError: the study has not ended after `timeout` seconds; it goes on.
        """
        start = time.monotonic()
        self.refresh()
        while not self.state.terminal:
            left = POLL_SECONDS if timeout is None else start + timeout - time.monotonic()
            if left <= 0:
                raise TimeoutError(f"The study {self.name} is {self.state} after {timeout:g} seconds.")
            time.sleep(min(left, POLL_SECONDS))
            self._refresh_if_possible()
        return self

    def _refresh_if_possible(self) -> None:
        """`refresh`, unless the server is away or busy at present."""
        try:
            self.refresh()
        except rest.Unreachable:
            pass
        except rest.Refused as refusal:
            if not refusal.temporary:
                raise

    def trials(self) -> list[TrialView]:
        """All trials, those of the confirmation included, in the order of their numbers.

        Each has `number`, `state`, `params`, `value` (of the objective), `metrics`, `step` (the last epoch) and more.
        """
        return list(self._rest.trials(self.id))

    def to_dataframe(self) -> "pandas.DataFrame":
        """The trials as a table with a row for each, and the columns of `thaw study export --format csv`.

        A parameter that a trial does not have, and a number that is missing or not finite, is NaN or None.

        Raises:
            ImportError: pandas is not installed.
        """
        try:
            import pandas
        except ImportError:
            raise ImportError("to_dataframe() needs pandas; install it with `pip install pandas`, or use trials().") from None
        from service.study_io.export import AFTER

        trials = self.trials()
        params = list(dict.fromkeys([*self.info.spec.search_space.root, *(name for trial in trials for name in trial.params)]))
        metrics = sorted({name for trial in trials for name in trial.metrics})
        rows = [
            [
                *(trial.number, str(trial.state), trial.value),
                *(trial.params.get(name) for name in params),
                *(trial.metrics.get(name) for name in metrics),
                *(getattr(trial, name) for name in AFTER),
            ]
            for trial in trials
        ]
        names = ["number", "state", "value", *(f"params.{name}" for name in params), *(f"metrics.{name}" for name in metrics), *AFTER]
        return pandas.DataFrame(rows, columns=names)

    def queue(self, *params: Mapping[str, Scalar]) -> list[TrialView]:
        """Queue a trial for each set of parameters, all or none of them. Returns the trials.

        Raises:
            Refused: a set of parameters is not in the search space, or the budget is spent; `faults` name the parameters.
        """
        return self._rest.queue_trials(self.id, _json([dict(one) for one in params]))

    def claim(self, worker: str | None = None, *, wait: bool = True) -> Trial:
        """Claim a trial, to train it in this process: `with study.claim() as trial:`.

        Args:
            worker: name of this claimant on the workers' page; by default the host's name and the process id.
            wait: wait while there is no trial but may be one later, such as while the last ones run elsewhere.

        Raises:
            NothingToClaim: the study has ended, or has no trial for this claimant.
        """
        return claimed(self._rest, self.id, worker, wait=wait, pause_seconds=POLL_SECONDS)

    def claims(self, worker: str | None = None) -> Iterator[Trial]:
        """Claim trials one after the other until the study has no more: `for trial in study.claims():` and in it `with trial:`."""
        while True:
            try:
                trial = self.claim(worker)
            except NothingToClaim:
                return
            yield trial

    def best(self) -> Exported:
        """The configuration that `thaw best` exports: the recommendation of the confirmation or, before there is one, the best trial.

        `origin.trial` and `origin.params` are the trial's, `reached.value` is its objective on the validation examples, `confirmed` the
        expected result on new examples, and `to_yaml()` the file for `thaw train`.

        Raises:
            Refused: of the kind no-result, before the first complete trial.
        """
        try:
            return read_export(self._rest.best(self.id, "json"))
        except InvalidInput as error:
            raise rest.UnexpectedAnswer(f"This version of Thawline cannot read the answer ({error}); install the server's.") from None

    def confirmation(self) -> ConfirmationView:
        """Progress and results of the confirmation: `phase`, `note`, and `verdict` with expected value, intervals and tied trials."""
        return self._rest.confirmation(self.id)

    def figure(self, name: str, *params: str) -> "Figure":
        """A Plotly figure, as the study's page draws it.

        Args:
            name: optimization_history, intermediate_values, param_importances, parallel_coordinate, slice, contour, rank, timeline or edf.
            params: the parameters that slice, parallel_coordinate, contour and rank show; by default the most important ones.

        Raises:
            Refused: there is no figure or no parameter with that name.
        """
        from plotly.graph_objects import Figure

        drawn = self._rest.figure(self.id, name, params)
        return Figure(data=drawn.data, layout=drawn.layout)

    def pause(self) -> Self:
        """Start no further trial. Running trials go on. Returns the study."""
        self._read(self._rest.command(self.id, "pause"))
        return self

    def resume(self) -> Self:
        """Continue a paused, stopped or failed study. Returns the study."""
        self._read(self._rest.command(self.id, "resume"))
        return self

    def stop(self) -> Self:
        """End the study. Its open trials are cancelled. Returns the study."""
        self._read(self._rest.command(self.id, "stop"))
        return self

    def extend(self, *, trials: int | None = None, hours: float | None = None) -> Self:
        """Add trials, hours or both to the budget. Returns the study.

        Raises:
            Refused: nothing is added, or the confirmation has begun.
        """
        self._read(self._rest.extend_study(self.id, trials, hours))
        return self

    def _read(self, view: StudyView) -> StudyView:
        self.info = view
        return view

    def __repr__(self) -> str:
        info = self.info
        best = "" if info.best is None else f", best {info.metric} {info.best.value:.4g} (trial {info.best.number})"
        return f"<Study {info.name}: {info.state}, {counted(info.created, 'trial')}{best}>"


def _document(study: Mapping[str, Any] | str | os.PathLike[str]) -> object:
    """The study document with absolute paths. Raises InvalidInput."""
    if isinstance(study, Mapping):
        return resolve_paths(_json(dict(study)), Path.cwd())
    if isinstance(study, str) and ("\n" in study or study.lstrip().startswith("{")):
        try:
            return resolve_paths(from_yaml(study), Path.cwd())
        except Faulty as error:
            raise InvalidInput(error.faults) from None
    try:
        file = Path(study).expanduser().absolute()
        return resolve_paths(from_file(file), file.parent)
    except Faulty as error:
        raise InvalidInput(replace_fields(fault, message=f"{file}: {fault.message}") for fault in error.faults) from None
    except (RuntimeError, ValueError) as error:  # ~ of an unknown user, or a null character
        raise InvalidInput([Fault((), "no_path", f"{os.fspath(study)!r} cannot be the path of a study file: {error}")]) from None


def _json(value: object) -> Any:
    """The value as JSON represents it: tuples as lists, paths as text, NumPy's numbers as numbers. Raises InvalidInput."""
    try:
        return json.loads(json.dumps(value, default=_plain))
    except (TypeError, ValueError, RecursionError) as error:  # another type, or a value that contains itself
        raise InvalidInput([Fault((), "not_json", f"the value has no representation in JSON: {error}")]) from None


def _plain(value: object) -> object:
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if callable(item := getattr(value, "item", None)):  # a number of NumPy
        return item()
    raise TypeError(f"it contains a value of type {type(value).__name__}")
