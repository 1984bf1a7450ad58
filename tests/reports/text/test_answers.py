"""Golden files of terminal text and report.md.

`python -m tests.reports.text.test_answers` regenerates them; read the diff before committing.
"""

import re
import tempfile
from pathlib import Path
from unittest.mock import patch

import pytest

from benchmark.common.storage.files import Storage
from reports.build import write_report
from reports.text.sentences import Origin
from reports.text.summary import MAX_LINES, MAX_LINES_ALONE
from reports.text.summary import MAX_TERMINAL_LINES as MOST
from tests.reports.synthetic import TESTED, frame
from tests.reports.text.cases import EIGHTEEN

GOLDEN = Path(__file__).parents[1] / "golden" / "answers"


def written(case: str, place: Path) -> dict[str, str]:
    """Return terminal text and report.md, without building figures and page."""
    asked = EIGHTEEN[case]
    with patch("reports.build.all_drawings", lambda *_: []), patch("reports.build._page", lambda *_: b""):
        report = write_report(frame(asked.rows), TESTED, Storage(str(place)), "", Origin(case), asked.options)
    return {f"{case}.txt": report.text.replace(str(place), "OUT") + "\n", f"{case}.md": Path(report.report).read_text()}


@pytest.mark.parametrize("case", EIGHTEEN)
def test_fixed_rows_give_the_golden_answers(case: str, tmp_path: Path) -> None:
    found = written(case, tmp_path)
    assert found == {name: (GOLDEN / name).read_text(encoding="utf-8") for name in found}
    terminal, report = found.values()
    one_setting = case not in ("sets_agree", "sets_disagree", "ten_encoders")
    assert len(terminal.splitlines()) <= (MAX_LINES_ALONE if one_setting else MOST)
    assert max(map(len, terminal.splitlines())) <= 80
    assert len(report.splitlines()) <= MAX_LINES
    assert not re.search(r"\b(Holm|N|nan)\b", terminal)
    assert terminal.count("lodo") <= 1  # the rule, named once
    answer = re.split("## (?:Table 1|Files)", report)[0]
    assert not re.search(r"\b(Holm|lodo|N|nan)\b", answer)
    sentences = [s for line in report.splitlines() if not line.startswith("|") for s in line.split(". ") if len(s) > 40]
    assert len(set(sentences)) == len(sentences)  # each fact once


if __name__ == "__main__":
    GOLDEN.mkdir(parents=True, exist_ok=True)
    for name in EIGHTEEN:
        with tempfile.TemporaryDirectory() as folder:
            for file, content in written(name, Path(folder)).items():
                (GOLDEN / file).write_text(content, encoding="utf-8")
