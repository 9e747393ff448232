"""Defines the commands below `thaw trial` and their options."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from service.cli.arguments import AsJson, StudyName, settings_of

trial = typer.Typer(help="Claim trials and train them in a shell script.", no_args_is_help=True)

ClaimFile = Annotated[
    Path | None, typer.Option("--claim", metavar="FILE", help="File of the claim, with its token; mode 0600 [THAW_CLAIM_FILE].")
]
Detail = Annotated[str, typer.Argument(help="Why, as a sentence.", show_default=False)]


@trial.command()
def claim(
    context: typer.Context,
    name: StudyName,
    file: ClaimFile = None,
    worker: Annotated[str | None, typer.Option(help="Name among the workers; default: of the host and the script.")] = None,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Wait while there is no trial now but may be one later.")] = True,
    as_json: AsJson = False,
) -> None:
    """Claim a trial: write its claim to a file, and print its parameters as shell variables. Exits with 4 if there is no trial."""
    from service.cli.claims import claim_trial

    claim_trial(settings_of(context, claim_file=file), name, worker, wait=wait, as_json=as_json)


@trial.command()
def report(
    context: typer.Context,
    metrics: Annotated[list[str], typer.Argument(metavar="NAME=VALUE...", help="Metrics of the step.", show_default=False)],
    step: Annotated[int, typer.Option(min=1, help="Number of the step, such as the epoch; above the last one.", show_default=False)],
    file: ClaimFile = None,
    as_json: AsJson = False,
) -> None:
    """Report the metrics of a step. Exits with 5 if the trial was pruned or cancelled, with 6 if the lease is lost: stop the training."""
    from service.cli.claims import report_step

    report_step(settings_of(context, claim_file=file), step, metrics, as_json=as_json)


@trial.command()
def heartbeat(
    context: typer.Context,
    file: ClaimFile = None,
    script: Annotated[
        int | None,
        typer.Option("--while", metavar="PID", min=1, help="Go on until the trial or this process has ended; $$ in a script."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Renew the lease. Exits with 5 if the trial has ended, with 6 if the lease is lost: stop the training."""
    from service.cli.claims import renew_lease

    renew_lease(settings_of(context, claim_file=file), script=script, as_json=as_json)


@trial.command()
def finish(
    context: typer.Context,
    metrics: Annotated[
        list[str] | None, typer.Argument(metavar="NAME=VALUE...", help="Metrics of a last step; default: those of the last report.")
    ] = None,
    file: ClaimFile = None,
    as_json: AsJson = False,
) -> None:
    """Complete the trial. May be repeated."""
    from service.cli.claims import end_trial, values_of

    given = values_of(metrics or [])
    end_trial(settings_of(context, claim_file=file), "finish", {"metrics": given} if given else {}, as_json=as_json)


@trial.command()
def fail(
    context: typer.Context,
    detail: Detail,
    reason: Annotated[
        Literal["script_error", "crashed", "out_of_memory", "diverged", "infeasible", "timeout"],
        typer.Option(help="crashed: the trial is tried again, up to limits.attempts times."),
    ] = "script_error",
    file: ClaimFile = None,
    as_json: AsJson = False,
) -> None:
    """End the trial without a result. May be repeated."""
    from service.cli.claims import end_trial, line_of

    end_trial(settings_of(context, claim_file=file), "fail", {"reason": reason, "detail": line_of(detail)}, as_json=as_json)


@trial.command()
def release(context: typer.Context, detail: Detail = "", file: ClaimFile = None, as_json: AsJson = False) -> None:
    """Return the trial to the queue, for example because the machine is needed. The attempt does not count."""
    from service.cli.claims import end_trial, line_of

    end_trial(settings_of(context, claim_file=file), "release", {"detail": line_of(detail)}, as_json=as_json)
