"""Failure policies: how each failure reason affects the trial, its duplicates, the sampler and the study.

No other module decides by the reason.

- `infeasible`: the trainer rejects these hyperparameters on this data and model, such as a batch of one example with batch normalisation.
  Other trials of the study can be trained. The policy is that of the next two reasons.
- `out_of_memory`, `diverged`: caused by the parameters. They would fail again on this machine and on similar ones. The trial ends, its
  duplicates get its result, and it is reported to the sampler as infeasible: `service.search.history` gives it a violated constraint and
  the worst known value. A final objective that is not finite counts as `diverged`.
  A trial that ran out of a GPU's memory is first offered to a GPU with LARGER times as much, as long as a worker that has one is alive.
- `crashed`: the process died, or raised an unexpected exception. The cause may be transient, so the trial is retried from its last valid
  checkpoint, at most `limits.attempts` times. The parameters may not be the cause, so the sampler gets no result and duplicates are
  trained. A crash of a process that trains several trials does not count against them: each is requeued to run alone.
- `timeout`: a retry would take as long. Duration says nothing about quality and depends on the machine, so the sampler gets no result.
- `script_error`: the run ended without the required messages, or a script failed. It would do so again with any parameters.
- `metric_missing`: a script ended without error, but never reported the objective. The policy is that of `script_error`.
- `bad_data`: data or weights differ from those that were checked. Every further trial would fail, or its metrics would not be comparable,
  so the study ends.
- `lost`: the worker stopped sending heartbeats. Lost machines do not indicate a fault of the study, so the failure is not counted; but a
  trial during which the worker is lost each time ends after `limits.attempts`.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from service.domain.records import Trial
from service.domain.states import TrialState
from trainer.configuration import counted
from trainer.protocol import Failed, FailureReason


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """The consequences of a failure for one reason."""

    retried: bool = False  # until the trial's crashes and lost workers together reach `limits.attempts`
    counts: bool = True  # towards the consecutive failures that `limits.failures` bounds
    answers: bool = False  # duplicates get this result instead of being trained
    infeasible: bool = False  # reported to the sampler as parameters that cannot be trained
    ends_study: bool = False
    moves: bool = False  # to a larger device before it counts, while a worker has one


POLICIES: Mapping[FailureReason, Policy] = MappingProxyType(
    {
        "infeasible": Policy(answers=True, infeasible=True),
        "out_of_memory": Policy(answers=True, infeasible=True, moves=True),
        "diverged": Policy(answers=True, infeasible=True),
        "crashed": Policy(retried=True),
        "timeout": Policy(),
        "script_error": Policy(),
        "metric_missing": Policy(),
        "bad_data": Policy(ends_study=True),
        "lost": Policy(retried=True, counts=False),
    }
)

LARGER = 1.25  # times the memory of the device on which a trial failed

COUNTING = frozenset(reason for reason, policy in POLICIES.items() if policy.counts)


def policy_of(trial: Trial) -> Policy | None:
    """The policy of the reason for which the trial failed; None for one that did not fail."""
    return None if trial.state is not TrialState.FAILED or trial.reason is None else POLICIES[trial.reason]


def least_device_bytes(failure: Failed) -> int | None:
    """The memory of a device on which the trial is worth another attempt; None if the failure counts at once."""
    return int(LARGER * failure.device_bytes) if POLICIES[failure.reason].moves and failure.device_bytes is not None else None


def in_a_row(before: int, ended: Sequence[Trial]) -> int:
    """The number of consecutive failures after these trials ended, in this order.

    A complete or pruned trial resets the count to 0. Lost and cancelled trials do not change it, nor do duplicates, which had no attempt.
    """
    count = before
    for trial in ended:
        policy = policy_of(trial)
        if trial.attempt == 0:
            continue
        if trial.state in (TrialState.COMPLETE, TrialState.PRUNED):
            count = 0
        elif policy is not None and policy.counts:
            count += 1
    return count


def no_result(ends: Mapping[tuple[TrialState, FailureReason | None], int], last: str | None) -> str:
    """The message of a study without a complete trial.

    `ends` counts its trials by state and failure reason, `last` is the detail of the last trial that ended.
    """
    total, states = sum(ends.values()), Counter[TrialState]()
    for (state, _), count in ends.items():
        states[state] += count
    if not total:
        return "there is no result: no trial was started"
    reasons = Counter({reason: count for (state, reason), count in ends.items() if state is TrialState.FAILED})
    failed = ", ".join(f"{count} {reason}" for reason, count in sorted(reasons.items(), key=lambda one: (-one[1], str(one[0]))))
    if len(states) == 1:
        (state,) = states
        subject = f"all {total} trials" if total > 1 else "the one trial"
        verb = "failed" if state is TrialState.FAILED else f"{'were' if total > 1 else 'was'} {state}"
        how = f"{subject} {verb}" + (f": {failed}" if failed else "")
    else:
        counts = [
            f"{count} {state}" + (f" ({failed})" if state is TrialState.FAILED else "")
            for state, count in sorted(states.items(), key=lambda one: (-one[1], one[0]))
        ]
        how = f"none of {total} trials is complete: {', '.join(counts)}"
    return f"there is no result: {how}" + (f"; the last: {last}" if last else "")


def summary(failed: Sequence[Trial]) -> str:
    """The message of a study that ends because these trials, in this order, failed one after another."""
    last = failed[-1]
    reasons = ", ".join(f"{count} {reason}" for reason, count in Counter(trial.reason for trial in failed).most_common())
    return f"{counted(len(failed), 'trial')} failed in a row: {reasons}; the last: {last.detail or last.reason}"
