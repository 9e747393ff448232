"""docs/claims.md: its lines run as written, and its table of errors is the server's."""

import os
import re
import subprocess
from pathlib import Path

import pytest

from service.web import problems
from tests.api.test_claims import THAW
from tests.serving import served

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "claims.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)


def test_the_lines_of_the_page_run_as_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("THAW_DATABASE_URL", raising=False)
    [study] = blocks("yaml")
    (tmp_path / "study.yaml").write_text(study)
    script = "set -euo pipefail\n" + "".join(blocks("sh"))
    with served(THAW, tmp_path / "home", workers=0) as address:
        environment = {"PATH": os.environ["PATH"], "THAW_SERVER": address}
        done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, cwd=tmp_path, env=environment, timeout=300)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    assert re.match(r'\{"claim":"[0-9a-f]{16}-0-1","number":0,"attempt":1,"phase":"search","params":\{"lr":', done.stdout), done.stdout
    kind = "urn:thawline:problem:"
    ends = ['{"state":"complete","value":0.4,"step":3}', "queued", f"{kind}lease-lost", f"{kind}claim-token-refused",
            "0", '{"state":"complete","value":0.4}', f"{kind}trial-closed"]  # fmt: skip
    lines = [line for line in re.sub(r"\}\{", "}\n{", done.stdout).splitlines() if line]
    assert lines[-len(ends) :] == ends, done.stdout
    assert '{"step":1,"stop":false,"why":null}' in done.stdout and '"heartbeat_seconds":5.0}' in done.stdout
    assert {file.name: file.stat().st_mode & 0o077 for file in tmp_path.iterdir() if file.name in ("claim.json", "token", "stale")} == {
        "claim.json": 0, "token": 0, "stale": 0,
    }  # fmt: skip


def test_the_errors_of_the_page_are_those_of_the_server() -> None:
    kinds = [*problems.KINDS.values(), *(one for one in vars(problems).values() if isinstance(one, problems.ProblemKind))]
    known = {(one.status, one.slug) for one in kinds}
    rows = [(int(status), slug) for status, slug in re.findall(r"^\| (\d{3}) \| `([a-z-]+)`", PAGE, re.MULTILINE)]
    assert len(rows) >= 10 and rows == sorted(rows, key=lambda row: row[0])
    assert [row for row in rows if row not in known] == []
