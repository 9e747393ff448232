"""What each reason of a failure entails: for the trial, its duplicates, the sampler and the study. Nothing else decides by the reason.

- `infeasible`: the trainer refuses these hyperparameters on this data and model, such as a batch of one example with batch normalisation.
  Other trials of the study can be trained. It is treated as the next two.
- `out_of_memory`, `diverged`: the parameters' fault; the same ones would fail again, here and on any like machine. So the trial ends, its
  duplicates are answered by it, and the sampler is told: `service.search.history` holds it for complete, with a violated constraint and
  the worst value that is known. A final objective that is no finite number counts as `diverged`.
- `crashed`: a process died, or raised what nobody foresaw. That may be a passing fault of the machine, so the trial goes on from its last
  sound checkpoint; what crashes each time ends with `limits.attempts`. Nobody knows whether the parameters were the cause: the sampler
  learns nothing, and duplicates are trained. A process that several trials share is not their crash: each is handed back, to run alone.
- `timeout`: it would take as long again. Slow is not bad, and machines differ: the sampler learns nothing.
- `script_error`: the run ended without what it had to deliver; it would do so again, whatever the parameters.
- `bad_data`: data or weights are not what was checked, so every further trial would fail, or be measured by another rule: the study ends.
- `lost`: the worker was not heard of any more. Machines that go away say nothing of the study, so this alone does not count against it;
  but a trial that takes its worker along each time ends with `limits.attempts`.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from service.domain.records import Trial
from service.domain.states import TrialState
from trainer.protocol import FailureReason


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What follows from a failure for one reason."""

    retried: bool = False  # until the trial's crashes and lost workers together reach `limits.attempts`
    counts: bool = True  # as one more of the trials that failed one after the other, which `limits.failures` bounds
    answers: bool = False  # trials with the same parameters, which then are not trained
    infeasible: bool = False  # to the sampler, as parameters that cannot be trained
    ends_study: bool = False


POLICIES: Mapping[FailureReason, Policy] = MappingProxyType(
    {
        "infeasible": Policy(answers=True, infeasible=True),
        "out_of_memory": Policy(answers=True, infeasible=True),
        "diverged": Policy(answers=True, infeasible=True),
        "crashed": Policy(retried=True),
        "timeout": Policy(),
        "script_error": Policy(),
        "bad_data": Policy(ends_study=True),
        "lost": Policy(retried=True, counts=False),
    }
)

COUNTING = frozenset(reason for reason, policy in POLICIES.items() if policy.counts)


def policy_of(trial: Trial) -> Policy | None:
    """The policy of the reason for which the trial failed; None for one that did not fail."""
    return None if trial.state is not TrialState.FAILED or trial.reason is None else POLICIES[trial.reason]


def in_a_row(before: int, ended: Sequence[Trial]) -> int:
    """How many trials have failed one after the other, after these ended in this order.

    One that is complete or pruned begins the count anew.
    Lost and cancelled trials leave it as it is, and so do duplicates, which had no attempt.
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
    """Why a study has no result whose trials ended so, by state and reason, none of them complete. `last` says why the last one ended."""
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
        how = f"of {total} trials none is complete: {', '.join(counts)}"
    return f"there is no result: {how}" + (f"; the last: {last}" if last else "")


def summary(failed: Sequence[Trial]) -> str:
    """Why a study ends in which these trials, the last one at the end, failed one after the other."""
    last = failed[-1]
    reasons = ", ".join(f"{count} {reason}" for reason, count in Counter(trial.reason for trial in failed).most_common())
    return f"{len(failed)} trials failed one after the other: {reasons}; the last: {last.detail or last.reason}"
