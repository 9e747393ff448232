"""The process that runs scripts: reads orders from standard input as `trainer.host` does, and runs a script for each."""

import logging
import os
import tempfile
import traceback
from collections.abc import Sequence
from contextlib import ExitStack, closing, suppress
from pathlib import Path

from trainer.configuration import RunConfig, narrowing
from trainer.pipes import HostMessage, MessageWriter, Orders, UnreadableOrder, ignore_signals_and_exit_with_supervisor, private_output
from trainer.protocol import BatchedRuns, Check, Checked, Failed, Run, TrainerReady, Unavailable
from trainer.scripts import guard, inputs
from trainer.scripts.attempt import ScriptAttempt, ScriptOptions, source_of
from trainer.scripts.inputs import AttemptFolders, InputError
from trainer.scripts.templates import TemplateError
from trainer.tasks.script.config import CHECKPOINTS, ScriptConfig, ScriptInfo, UnfitFiles, info_of

MOST_NAMED = 5  # changed files, in a message
log = logging.getLogger(__name__)
scripted = narrowing(ScriptConfig, "is no script")


def serve(options: ScriptOptions) -> None:
    """Perform orders until standard input ends, which ends the process and its script at once. Never returns."""
    lines = MessageWriter(private_output())
    ignore_signals_and_exit_with_supervisor()
    guard.prctl(guard.PR_SET_CHILD_SUBREAPER, 1)  # for processes of a script that has killed its guard
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    os.set_blocking(woken, False)
    orders = Orders(lambda: _wake(wake))
    host = ScriptHost(orders, lines, woken, options)
    while True:
        lines.send(TrainerReady())
        host.perform(orders.next_task(3600.0, lambda: None))


def _wake(descriptor: int) -> None:
    try:
        os.write(descriptor, b"!")
    except BlockingIOError:  # it can be read already
        return


class ScriptHost:
    """Checks scripts and runs them, one after the other."""

    def __init__(self, orders: Orders, lines: MessageWriter, woken: int, options: ScriptOptions) -> None:
        self._orders, self._lines, self._woken, self._options = orders, lines, woken, options

    def perform(self, task: Check | Run | BatchedRuns | UnreadableOrder) -> None:
        """Perform the task and send its result. Any error is sent as Failed."""
        try:
            match task:
                case Check():
                    self._lines.send(self._checked(task.config))
                case Run():
                    self._attempt(task)
                case BatchedRuns() | UnreadableOrder():
                    raise TypeError(f"{type(task).__name__}: {task}")
        except (InputError, TemplateError) as error:
            self._lines.send(Failed(reason="script_error", detail=str(error)))
        except Exception as error:
            traceback.print_exc(limit=-12)
            self._lines.send(Failed(reason="crashed", detail=f"{type(error).__name__}: {error}"))

    def _checked(self, config: RunConfig) -> HostMessage:
        config = scripted(config)
        facts = self._facts(config, None)
        if not isinstance(facts, ScriptInfo):
            return facts
        with tempfile.TemporaryDirectory(prefix="thaw-") as folder:
            environment = inputs.environment_of(config, AttemptFolders(Path(folder), Path(folder)), os.environ)
            command = inputs.command_of(config, environment)
        inputs.find_program(command[0], Path(config.workdir), environment)
        inputs.rendered_templates(config)
        source_of(config, Path(config.workdir))
        return Checked(facts=facts)

    def _attempt(self, run: Run) -> None:
        config = scripted(run.config)
        facts = self._facts(config, run.expected)
        if not isinstance(facts, ScriptInfo):
            self._lines.send(facts)
            return
        with ExitStack() as stack:
            given = run.checkpoint_folder
            # In a folder of its own, because the checkpoints are beside it.
            out = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="thaw-")), "out") if given is None else Path(given)
            folders = prepared_folders(out.resolve())
            attempt = ScriptAttempt(run, config, folders, self._lines, self._orders.received, self._options)
            stack.enter_context(closing(attempt)).follow(facts, self._woken)

    def _facts(self, config: ScriptConfig, expected: object) -> ScriptInfo | Failed | Unavailable:
        """The digests of the script's files, or why it is not run: not allowed here, not readable here, or changed."""
        workdir = Path(config.workdir).resolve()
        if not any(workdir.is_relative_to(folder) for folder in self._options.allowed):
            detail = f"{config.workdir} is in none of the folders that this worker runs scripts from (thaw worker --allow-scripts DIR)"
            return Unavailable(what="script", detail=detail)
        if not workdir.is_dir():
            return Unavailable(what="script", detail=f"workdir: there is no folder {config.workdir}", paths=(config.workdir,))
        try:
            facts = info_of(config)
        except (UnfitFiles, OSError) as error:
            return Failed(reason="bad_data", detail=f"the files of the script cannot be read: {error}")
        outside = [name for name in facts.files if not any((workdir / name).resolve().is_relative_to(one) for one in self._options.allowed)]
        if outside:
            return Unavailable(what="script", detail=f"{_some(outside)} is a link out of the folders that this worker runs scripts from")
        if isinstance(expected, ScriptInfo) and (changed := expected.differences(facts)):
            detail = f"files of the script have changed since the study's check: {_some(changed)}; restore them, or create a new study"
            return Failed(reason="bad_data", detail=detail)
        return facts


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    return ", ".join(names[:MOST_NAMED]) + more


def prepared_folders(out: Path) -> AttemptFolders:
    """The folders of an attempt with the files that earlier attempts have left for it.

    The checkpoints are in a folder named as the attempt's, which is renamed for each attempt: a process of an earlier attempt that still
    runs cannot open files by its old path.
    """
    out.mkdir(parents=True, exist_ok=True)
    checkpoints = out.parent / CHECKPOINTS
    checkpoints.mkdir(exist_ok=True)
    own = checkpoints / out.name
    earlier = sorted((path for path in checkpoints.iterdir() if path.is_dir()), key=lambda path: path.stat().st_mtime)
    folders = AttemptFolders(out, own)
    if not own.exists() and earlier:
        with suppress(FileNotFoundError):  # it has reported nothing
            AttemptFolders(out, earlier[-1]).reported.rename(folders.reported)
        earlier[-1].rename(own)
    own.mkdir(exist_ok=True)
    return folders
