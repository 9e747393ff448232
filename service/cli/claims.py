"""Commands with which a shell script trains trials: claims over REST, kept in a file that has the token."""

import math
import os
import re
import shlex
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, TypeVar

import typer
from pydantic import ValidationError

from search_spaces import Scalar
from service.cli.console import NOTHING_TO_CLAIM, STOP, Failure, FaultyFile, console, print_json
from service.cli.files import read_text, write_whole
from service.client import ClaimKey, Client, Refused, Unreachable, claimant
from service.domain.errors import InvalidInput, LeaseLost
from service.domain.text import clean
from service.rest_models import ClaimView, ReportedView, TrialView
from service.settings import Settings
from service.timing import Backoff

POLL_SECONDS = 1.0  # between two claims while there is no trial
RETRY = (0.25, 5.0)  # minimum and maximum seconds between two tries during an outage
OUTAGE_SECONDS = 600.0  # for which the end of a trial is sent again
LONGEST_DETAIL = 1_000  # characters
LONGEST_FILE = 1_000_000  # bytes of a claim

Result = TypeVar("Result")


def claim_trial(settings: Settings, study: str, worker: str | None, *, wait: bool, as_json: bool) -> None:
    """Claim a trial, write the claim to its file, and print it. Raises Exit if there is no trial, Failure."""
    file = _file(settings)
    # All commands of a script have its process group; their parent is often a subshell.
    name = claimant(os.getpgrp()) if worker is None else worker
    with Client(settings.server, settings.token) as client:
        known = client.study(study)
        while not isinstance(found := client.claim(known.id, name), ClaimView):
            if found.final or not wait:
                if as_json:
                    print_json(found)
                console(stderr=True).print(found.detail)
                raise typer.Exit(NOTHING_TO_CLAIM)
            time.sleep(POLL_SECONDS)
        try:
            write_whole(file, found.model_dump_json() + "\n", mode=0o600)
        except Failure:
            client.about_claim(TrialView, "release", ClaimKey(found.claim, found.token), {"detail": "the claim could not be kept"})
            raise
    if as_json:
        print_json({name: value for name, value in found.model_dump(mode="json").items() if name != "token"})
    else:
        for line in _variables(found, known.spec.search_space.root):
            typer.echo(line)


def _variables(claim: ClaimView, searched: Iterable[str]) -> Iterator[str]:
    """The claim without its token as commands of a shell. Parameters that the trial does not have are unset."""
    fields: dict[str, Scalar] = {
        "CLAIM": claim.claim, "TRIAL": claim.number, "ATTEMPT": claim.attempt, "SEED": claim.seed,
        "PHASE": "confirm" if claim.phase == "confirmation" else claim.phase,
        "LAST_STEP": "" if claim.last_step is None else claim.last_step,
    }  # fmt: skip
    for name, value in fields.items():
        yield f"export THAW_{name}={_quoted(value)}"
    given = {**claim.fixed, **claim.params}
    variables = defaultdict[str, list[str]](list)
    for name in dict.fromkeys((*given, *searched)):
        variables[re.sub(r"[^A-Za-z0-9_]", "_", name)].append(name)
    for variable, names in variables.items():
        if len(names) > 1:
            console(stderr=True).print(f"{' and '.join(names)} would have the same variable; read them from the file of the claim")
            yield f"unset THAW_PARAM_{variable}"
        elif names[0] in given:
            yield f"export THAW_PARAM_{variable}={_quoted(given[names[0]])}"
        else:
            yield f"unset THAW_PARAM_{variable}"


def _quoted(value: Scalar) -> str:
    if value is None:
        return ""
    return shlex.quote(str(value).lower() if isinstance(value, bool) else str(value))


def report_step(settings: Settings, step: int, metrics: Sequence[str], *, as_json: bool) -> None:
    """Report the metrics of a step. Raises Exit if the pruner has ended the trial, InvalidInput."""
    values = values_of(metrics)
    claim, key = _read_claim(settings)
    with Client(settings.server, settings.token) as client, _faults():
        body = {"step": step, "metrics": values}
        found = _sent(lambda: client.about_claim(ReportedView, "report", key, body), _trust_seconds(claim))
    if as_json:
        print_json(found)
    if found.stop:
        console(stderr=True).print(f"Trial {claim.number} was pruned: {found.why}")
        raise typer.Exit(STOP)
    if not as_json:
        console().print(f"trial {claim.number}: step {found.step} reported")


def renew_lease(settings: Settings, *, script: int | None, as_json: bool) -> None:
    """Renew the lease; with the process id of a script until it is lost, the trial has ended or the script has. Raises LeaseLost."""
    claim, key = _read_claim(settings)
    trust = _trust_seconds(claim)
    with Client(settings.server, settings.token) as client:
        renewed_at = time.monotonic()
        held = _sent(lambda: client.renew(key), trust)
        if as_json:
            print_json(held, line=script is not None)
        elif script is None:
            console().print(f"trial {claim.number}: renewed for {held.lease_seconds:g} s")
        while script is not None:
            time.sleep(held.heartbeat_seconds)
            if not _runs(script):  # the lease of a script that was killed must expire
                return
            sent_at = time.monotonic()
            try:
                held = client.renew(key, trust / 2)
                renewed_at = sent_at
            except (Unreachable, Refused) as error:
                if isinstance(error, Refused) and not error.temporary:
                    raise
            if (silent := time.monotonic() - renewed_at) > trust:
                why = f"the server could not be reached for {silent:.0f} s, so another claimant may get it"
                raise LeaseLost(claim.number, claim.attempt, f"Trial {claim.number} can no longer be trained: {why}.")


def _runs(process: int) -> bool:
    """Whether the process has not ended."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # it is another user's
        pass
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:  # not on Linux
        return True


def end_trial(settings: Settings, verb: Literal["finish", "fail", "release"], body: Mapping[str, Any], *, as_json: bool) -> None:
    """End the claim and print the trial. During an outage it is tried again for OUTAGE_SECONDS. Raises InvalidInput."""
    claim, key = _read_claim(settings)
    with Client(settings.server, settings.token) as client, _faults():
        ended = _sent(lambda: client.about_claim(TrialView, verb, key, body), OUTAGE_SECONDS)
    if as_json:
        print_json(ended)
    else:
        value = "" if ended.value is None else f", {claim.metric} {ended.value:g}"
        console().print(f"trial {claim.number}: {ended.state}{value}{f', {ended.detail}' if ended.detail else ''}")


def values_of(metrics: Sequence[str]) -> dict[str, float | None]:
    """The metrics by name; None for a value that is not finite. Raises BadParameter."""
    found = dict[str, float | None]()
    for one in metrics:
        name, equals, text = one.partition("=")
        try:
            value = float(text)
        except ValueError:
            raise typer.BadParameter(f"{one!r} is not a metric; write NAME=NUMBER, such as accuracy=0.9") from None
        if not equals or not name or name in found:
            raise typer.BadParameter(f"{one!r} has no name, or that of another metric; write NAME=NUMBER, each name once")
        found[name] = value if math.isfinite(value) else None
    return found


def line_of(text: str) -> str:
    """The text in one line."""
    return " ".join(clean(text).split())[:LONGEST_DETAIL]


def _file(settings: Settings) -> Path:
    if settings.claim_file is None:
        raise typer.BadParameter("give --claim FILE, or set THAW_CLAIM_FILE to its path")
    return settings.claim_file


def _read_claim(settings: Settings) -> tuple[ClaimView, ClaimKey]:
    file = _file(settings)
    try:
        claim = ClaimView.model_validate_json(read_text(file, LONGEST_FILE), extra="ignore")
    except ValidationError:
        raise FaultyFile(file, (("#", "this is not the file of a claim; name the file that `thaw trial claim` wrote"),)) from None
    return claim, ClaimKey(claim.claim, claim.token)


def _trust_seconds(claim: ClaimView) -> float:
    """Two heartbeats less than the server waits, as for worker processes."""
    return claim.lease_seconds - 2 * claim.heartbeat_seconds


def _sent(call: Callable[[], Result], seconds: float) -> Result:
    """The result of the call, which is repeated for so many seconds while the server does not answer or is busy."""
    start, tries = time.monotonic(), Backoff(*RETRY).tries()
    while True:
        next(tries)
        try:
            return call()
        except (Unreachable, Refused) as error:
            temporary = isinstance(error, Unreachable) or error.temporary
            if not temporary or time.monotonic() - start > seconds:
                raise


@contextmanager
def _faults() -> Iterator[None]:
    """Metrics that the server refuses are invalid input."""
    try:
        yield
    except Refused as refusal:
        if refusal.faults:
            raise InvalidInput(refusal.faults) from None
        raise
