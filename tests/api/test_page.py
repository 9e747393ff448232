"""docs/python.md: its lines run as written."""

import re
import sys
from pathlib import Path

from tests.api import page


def test_the_lines_of_the_page_run_as_written(server: str, demo_data: Path) -> None:
    printed = page.run(Path(sys.executable), page.blocks(), demo_data, server)
    assert re.findall(r"^trial (\d+) is complete$", printed, re.MULTILINE)
    assert re.search(r"^<Study digits: complete, \d+ trials, best accuracy 0\.\d+ \(trial \d\)>$", printed, re.MULTILINE), printed
    assert re.search(r"^recommended: \d \{'lr': .*, 'optimizer': '(sgd|adamw)'\} 0\.\d+$", printed, re.MULTILINE), printed
    assert "done" in printed and "figure of scatter" in printed, printed
    assert re.search(r"number +value +params\.lr +params\.optimizer", printed), printed
    assert "['digits-short', 'digits'" in printed, printed  # the newest first; other tests have studies on this server
    assert re.search(r"^complete with trials of \{.*'rest:", printed, re.MULTILINE), printed
    assert "#/search_space/lr" in printed and "#/model" in printed, printed
    assert (demo_data / "best.yaml").read_text().startswith("# ")
