"""Runs under way in one generator: what they tell is passed on, and each ends when it is told to."""

import traceback
from collections.abc import Callable, Collection, Sequence
from contextlib import closing
from typing import Protocol

from trainer import memory
from trainer.chronicle import Chronicle
from trainer.learners import Member
from trainer.loop import Event, Events
from trainer.pipe import Line
from trainer.protocol import Advanced, Answer, Cancel, Exported, Failed, Finished, Measured, Prepared, Saved, Stopped, Unavailable
from trainer.stopwatch import Stopwatch


class Listener(Protocol):
    """Whom it is told; `trainer.pipe.Lines`."""

    def hold(self, line: Line) -> None: ...
    def tell(self, *lines: Line) -> None: ...


class Speaker(Protocol):
    """Who may end runs; `trainer.pipe.Orders`."""

    def cancels(self) -> list[Cancel]: ...
    def words(self, due: Collection[int]) -> list[Answer | Cancel]: ...


class Group:
    """Member `i` is lane `i` in the lines; a run alone is a group of one.

    The lanes tell Prepared and Measured in rounds, all that are open one after the other in any order. With its last Measured a round
    is complete: it is written at once, and only then the answers to it are waited for.
    """

    def __init__(
        self, members: Sequence[Member], end: Callable[[int], None], listener: Listener, speaker: Speaker, stopwatch: Stopwatch
    ) -> None:
        self._members, self._end = members, end
        self._listener, self._speaker, self._stopwatch = listener, speaker, stopwatch
        self._open = set(range(len(members)))  # lanes that have not come to an end
        self._round = dict[int, Prepared | Measured]()  # by lane, what was told of the present round
        self._chronicle = Chronicle(members)

    def follow(self, facts: Events) -> None:
        """Until all runs have come to an end. Whatever breaks the generator ends those still open as Failed."""
        try:
            with closing(facts):
                for fact in facts:
                    self._pass_on(fact)
                    if self._is_stopped(fact):
                        break
        except Exception as error:  # a run that breaks is an outcome; the process stays usable
            traceback.print_exc(limit=-12)
            for lane in sorted(self._open):
                self._listener.hold(failed(error, lane, self._members[lane].checkpoints.step))
        self._chronicle.close()
        self._listener.tell()

    def _pass_on(self, fact: Event) -> None:
        """Tell it, in the log first: who hears of an epoch finds its line there."""
        match fact:
            case Prepared() | Measured():
                self._round[fact.lane] = fact
            case Failed() | Unavailable() | Exported():
                self._open.discard(fact.lane)
            case Finished() if self._members[fact.lane].model_file is None:
                self._open.discard(fact.lane)
        self._chronicle.hear(fact)
        if self._complete:
            self._chronicle.hear_round(self._round.values())
        if len(self._members) == 1 or isinstance(fact, Advanced | Saved):
            self._listener.tell(fact)
        else:
            self._listener.hold(fact)

    @property
    def _complete(self) -> bool:
        """Whether all that are open have told of the present round."""
        return bool(self._round) and self._round.keys() >= self._open

    def _is_stopped(self, fact: Event) -> bool:
        """Obey what was said meanwhile; whether that ended the last of the runs."""
        words = list[Answer | Cancel]()
        if complete := self._complete:
            words += self._answers()
        if isinstance(fact, Advanced) or (complete and isinstance(fact, Prepared)):  # in the middle of a round nobody leaves
            words += self._speaker.cancels()
        for word in words:
            if isinstance(word, Cancel) or not word.go_on:
                for lane in sorted(self._open if word.lane is None else self._open & {word.lane}):
                    self._stop(lane, save=isinstance(word, Cancel) and word.save)
        if words:
            self._listener.tell()
        return bool(words) and not self._open

    def _answers(self) -> list[Answer | Cancel]:
        """What is said to the round, which is complete."""
        due = {
            lane
            for lane, fact in self._round.items()
            if lane in self._open and isinstance(fact, Measured) and fact.step in self._members[lane].decision_steps
        }
        self._round.clear()
        self._listener.tell()
        if not due:
            return []
        with self._stopwatch("waiting"):
            return self._speaker.words(due)

    def _stop(self, lane: int, *, save: bool) -> None:
        checkpoints = self._members[lane].checkpoints
        self._end(lane)
        self._open.discard(lane)
        self._chronicle.stopped(lane)
        if save and (written := checkpoints.write()):
            self._listener.hold(Saved(lane=lane, checkpoint=written))
        self._listener.hold(Stopped(lane=lane, step=checkpoints.step))


def failed(error: Exception, lane: int, step: int = 0) -> Failed:
    """How a run ended that broke with the error."""
    if (lack := memory.lack(error)) is not None:
        return Failed(lane=lane, reason="out_of_memory", detail=lack, step=step)
    return Failed(lane=lane, reason="crashed", detail=f"{type(error).__name__}: {error}", step=step)
