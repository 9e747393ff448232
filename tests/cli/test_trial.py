"""`thaw trial`: a shell script claims trials, reports on them and ends them, on a server without workers."""

import json
import os
import re
import shlex
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from service.cli import claims
from service.client import ClaimKey, Client, Refused, Unreachable
from service.rest_models import ClaimView, StudyView, TrialView
from tests.cli.conftest import Said
from tests.serving import served
from tests.web.laboratory import study_document

THAW = Path(sys.executable).parent / "thaw"
LEASE_SECONDS, HEARTBEAT_SECONDS = 6.0, 0.5
MEDIAN = {"name": "median", "n_startup_trials": 1, "n_warmup_steps": 0}
CODES = {4, 5, 6}  # of docs/commands.md, tested here

Trials = Callable[..., Said]


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """A client of a server without workers, with short leases."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("THAW_DATABASE_URL", raising=False)
        patch.setenv("THAW_LEASE_SECONDS", str(LEASE_SECONDS))
        patch.setenv("THAW_HEARTBEAT_SECONDS", str(HEARTBEAT_SECONDS))
        with served(THAW, tmp_path_factory.mktemp("trials") / "home", workers=0) as address, Client(address) as opened:
            yield opened


@pytest.fixture
def study(client: Client, request: pytest.FixtureRequest) -> StudyView:
    return client.create_study(study_document(re.sub(r"\W", "-", request.node.name)[-100:]))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "claim.json"


@pytest.fixture
def trial(client: Client, thaw: Callable[..., Said], file: Path, monkeypatch: pytest.MonkeyPatch) -> Trials:
    """Runs `thaw trial` with these arguments and the file."""
    monkeypatch.setenv("THAW_CLAIM_FILE", str(file))
    monkeypatch.setenv("THAW_SERVER", client.server)
    return lambda *arguments: thaw("trial", *arguments)


def key(file: Path) -> ClaimKey:
    claim = json.loads(file.read_text())
    return ClaimKey(claim["claim"], claim["token"])


def now(client: Client, study: StudyView, number: int = 0) -> TrialView:
    return next(one for one in client.trials(study.id) if one.number == number)


def test_a_script_claims_reports_and_finishes(trial: Trials, client: Client, study: StudyView, file: Path) -> None:
    file.write_text("an earlier claim")
    file.chmod(0o644)
    said = trial("claim", study.name, "--worker", "slurm-17")
    assert (said.code, said.err) == (0, "")
    claim = ClaimView.model_validate_json(file.read_text())
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert claim.token not in said.out
    names = ("THAW_CLAIM", "THAW_TRIAL", "THAW_ATTEMPT", "THAW_PHASE", "THAW_LAST_STEP", "THAW_SEED", "THAW_PARAM_lr", "THAW_PARAM_epochs")
    script = f'{said.out}\nenv | grep ^THAW_ | wc -l\nprintf "%s\\n" {" ".join(f"${name}" for name in names)}'
    shell = subprocess.run(["sh", "-euc", script], capture_output=True, text=True, timeout=60, check=True, env={"PATH": os.environ["PATH"]})
    expected = (claim.claim, 0, 1, "search", 3, claim.seed, claim.params["lr"], 3)
    assert shell.stdout.split()[1:] == [str(value) for value in expected]
    assert trial("report", "--step", 1, "accuracy=0.5", "loss=nan").out == "trial 0: step 1 reported\n"
    assert trial("heartbeat").out == "trial 0: renewed for 6 s\n"
    for _ in range(2):  # the first answer may have been lost
        assert trial("finish", "accuracy=0.75").out == "trial 0: complete, accuracy 0.75\n"
    done = now(client, study)
    assert (done.state, done.value, done.step, done.worker, done.metrics["loss"]) == ("complete", 0.75, 2, "rest:slurm-17", None)


def test_json_is_the_body_of_the_answer_without_the_token(trial: Trials, client: Client, study: StudyView, file: Path) -> None:
    claim = json.loads(trial("claim", study.name, "--json").out)
    assert claim == {name: value for name, value in json.loads(file.read_text()).items() if name != "token"}
    assert now(client, study).worker == f"rest:{os.uname().nodename}-{os.getpgrp()}"
    assert json.loads(trial("report", "--step", 3, "accuracy=0.5", "--json").out) == {"step": 3, "stop": False, "why": None}
    assert json.loads(trial("heartbeat", "--json").out)["lease_seconds"] == LEASE_SECONDS
    assert json.loads(trial("release", "the machine is\nneeded", "--json").out)["state"] == "queued"
    assert json.loads(trial("claim", study.name, "--json").out)["attempt"] == 2
    failed = json.loads(trial("fail", "--reason", "out_of_memory", "the batch did not fit", "--json").out)
    assert (failed["state"], failed["reason"], failed["detail"]) == ("failed", "out_of_memory", "the batch did not fit")


def test_without_a_trial_the_code_is_4(trial: Trials, client: Client, file: Path) -> None:
    study = client.create_study(study_document("nothing", budget={"trials": 1}))
    assert trial("claim", study.name).code == 0
    running = trial("claim", study.name, "--no-wait")
    assert (running.code, running.out) == (4, "") and "running" in running.err
    assert trial("finish", "accuracy=0.5").code == 0
    ended = trial("claim", study.name, "--json")
    assert (ended.code, ended.err) == (4, "The study is complete.\n")
    assert (json.loads(ended.out)["reason"], json.loads(ended.out)["final"]) == ("finished", True)


def test_a_pruned_or_cancelled_trial_is_5(trial: Trials, client: Client, file: Path) -> None:
    study = client.create_study(study_document("stops", pruner=MEDIAN))
    trial("claim", study.name)
    trial("finish", "accuracy=0.9")
    trial("claim", study.name)
    for _ in range(2):
        pruned = trial("report", "--step", 1, "accuracy=0.1")
        assert (pruned.code, pruned.out) == (5, "") and pruned.err.startswith("Trial 1 was pruned: ")
    for command in (("heartbeat",), ("finish", "accuracy=0.95"), ("heartbeat", "--while", os.getpid())):
        late = trial(*command)
        assert late.code == 5 and late.err.startswith("Trial 1 has ended: pruned")
    trial("claim", study.name)
    client.command(study.name, "stop")
    cancelled = trial("report", "--step", 1, "accuracy=0.95")
    assert cancelled.code == 5 and cancelled.err.startswith("Trial 2 was cancelled")


def test_a_lost_lease_is_6_and_its_token_writes_nothing(trial: Trials, client: Client, study: StudyView, file: Path) -> None:
    trial("claim", study.name)
    stale = file.read_text()
    client.about_claim(TrialView, "release", key(file), {})  # as a reaper takes it
    for command in (("report", "--step", 1, "accuracy=0.9"), ("heartbeat",), ("finish", "accuracy=0.9")):
        lost = trial(*command)
        assert lost.code == 6 and "no longer belongs to this claim" in lost.err
    assert trial("claim", study.name).code == 0
    fresh = file.read_text()
    file.write_text(json.dumps(json.loads(stale) | {"claim": json.loads(fresh)["claim"]}))
    reused = trial("finish", "accuracy=0.9")
    assert reused.code == 1 and "does not have the token of this claim" in reused.err
    file.write_text(fresh)
    assert trial("finish", "accuracy=0.25").code == 0
    assert now(client, study).value == 0.25
    client.command(study.name, "stop")
    client.delete_study(study.name)
    assert trial("heartbeat").code == 6


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("report", "--step", 1, "accuracy"), "write NAME=NUMBER"),
        (("report", "--step", 1, "=1"), "write NAME=NUMBER"),
        (("report", "--step", 1, "loss=1", "loss=2"), "each name once"),
        (("report", "--step", 0, "accuracy=0.5"), "--step"),
        (("report", "accuracy=0.5"), "--step"),
        (("report", "--step", 1, "accurcy=0.5"), "#/metrics/accurcy"),
        (("report", "--step", 4, "accuracy=0.5"), "#/step"),
        (("finish", "accuracy=1.5"), "#/metrics/accuracy"),
        (("fail", "--reason", "lost", "x"), "--reason"),
    ],
)
def test_what_cannot_be_sent_is_invalid_input(
    trial: Trials, client: Client, study: StudyView, arguments: tuple[str, ...], message: str
) -> None:
    trial("claim", study.name)
    said = trial(*arguments)
    assert said.code == 2 and message in said.err
    assert (now(client, study).state, now(client, study).step) == ("running", 0)


def test_a_file_that_is_no_claim_is_invalid_input(trial: Trials, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert (trial("heartbeat").code, trial("heartbeat", "--claim", "/nowhere").code) == (2, 2)
    for text in ("", "{}", "photos"):
        file.write_text(text)
        said = trial("finish")
        assert said.code == 2 and "name the file that `thaw trial claim` wrote" in said.err
    monkeypatch.delenv("THAW_CLAIM_FILE")
    assert "--claim FILE" in trial("finish").err


def test_a_claim_that_cannot_be_kept_is_released(trial: Trials, client: Client, study: StudyView, tmp_path: Path) -> None:
    said = trial("claim", study.name, "--claim", tmp_path / "missing" / "claim")
    assert said.code == 1 and "cannot be written" in said.err
    assert now(client, study).state == "queued"


def variables(claim: ClaimView, *searched: str, **params: Any) -> list[str]:
    one = claim.model_copy(update={"params": params, "fixed": {}})
    return [line for line in claims._variables(one, searched) if "_PARAM_" in line]


def test_parameters_are_variables_that_a_shell_reads(
    trial: Trials, study: StudyView, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trial("claim", study.name)
    claim = ClaimView.model_validate_json(file.read_text())
    hostile = "a'b $(id)`x`"
    assert variables(claim, name=hostile) == [f"export THAW_PARAM_name={shlex.quote(hostile)}"]
    assert variables(claim, "lr", "momentum", lr=1e-05, nesterov=True) == [
        "export THAW_PARAM_lr=1e-05", "export THAW_PARAM_nesterov=true", "unset THAW_PARAM_momentum",
    ]  # fmt: skip
    assert variables(claim, warmup=None) == ["export THAW_PARAM_warmup="]
    assert variables(claim, **{"head.dropout": 0.5}) == ["export THAW_PARAM_head_dropout=0.5"]
    assert variables(claim, **{"a.b": 1, "a_b": 2}) == ["unset THAW_PARAM_a_b"]
    assert "a.b and a_b" in capsys.readouterr().err


def loop(client: Client, file: Path, script: object) -> str:
    return f"{shlex.join([str(THAW), '--server', client.server, 'trial', 'heartbeat', '--claim', str(file)])} --while {script}"


def test_a_loop_renews_until_the_trial_has_ended(trial: Trials, client: Client, study: StudyView, file: Path) -> None:
    trial("claim", study.name)
    with subprocess.Popen(shlex.split(loop(client, file, os.getpid())), stderr=subprocess.PIPE, text=True) as process:
        time.sleep(1.2 * LEASE_SECONDS)
        assert trial("finish", "accuracy=0.5").code == 0
        assert process.wait(60) == 5
        assert process.stderr is not None and process.stderr.read() == "Trial 0 has ended: complete. Nothing can be reported.\n"
    assert now(client, study).attempt == 1


def test_a_loop_ends_with_its_script_so_that_the_trial_returns(trial: Trials, client: Client, study: StudyView, file: Path) -> None:
    """I9, I10: a heartbeat that outlived a killed script would keep the trial for ever."""
    trial("claim", study.name)
    script = f"{loop(client, file, '$$')} & echo $!; exec sleep 600"
    with subprocess.Popen(["sh", "-c", script], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        heartbeat = int(process.stdout.readline())
        time.sleep(2 * HEARTBEAT_SECONDS)
        assert now(client, study).state == "running"
        process.kill()
    deadline = time.monotonic() + 60
    while now(client, study).state == "running" or Path(f"/proc/{heartbeat}").exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_without_an_answer_for_the_trust_window_a_loop_ends_with_6(
    trial: Trials, study: StudyView, monkeypatch: pytest.MonkeyPatch
) -> None:
    """I9: before the lease can expire."""
    trial("claim", study.name)
    renew, answers = Client.renew, iter(range(1))  # the first is answered

    def gone(self: Client, *arguments: Any) -> Any:
        if next(answers, None) is not None:
            return renew(self, *arguments)
        raise Unreachable("gone")

    monkeypatch.setattr(Client, "renew", gone)
    start = time.monotonic()
    said = trial("heartbeat", "--while", os.getpid())
    assert said.code == 6 and "the server could not be reached for" in said.err
    assert time.monotonic() - start < LEASE_SECONDS, "another claimant may have it after that"


def test_the_end_of_a_trial_is_sent_again_during_an_outage(
    trial: Trials, client: Client, study: StudyView, monkeypatch: pytest.MonkeyPatch
) -> None:
    """I1."""
    trial("claim", study.name)
    call, answers = Client.about_claim, iter([Unreachable("gone"), Refused(503, "store-unavailable", "the database is away")])

    def late(self: Client, *arguments: Any) -> Any:
        if (error := next(answers, None)) is not None:
            raise error
        return call(self, *arguments)

    monkeypatch.setattr(Client, "about_claim", late)
    assert trial("finish", "accuracy=0.5").code == 0
    assert now(client, study).value == 0.5 and next(answers, None) is None
    monkeypatch.setattr(claims, "OUTAGE_SECONDS", 0.0)
    monkeypatch.setenv("THAW_SERVER", "http://127.0.0.1:9")
    assert trial("finish", "accuracy=0.5").code == 3
