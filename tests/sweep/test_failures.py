"""Trials that raise, are killed, or hang: the others complete, and the report shows gaps with reasons."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from benchmark.cli import main
from tests.conftest import toy_in

pytestmark = [
    pytest.mark.long("a trial that is killed or hangs takes others with it"),
    pytest.mark.usefixtures("local_ray"),
]

BROKEN = {"Raises": "this predictor is broken", "OutOfMemory": "it was killed", "Hangs": "run.trial_timeout = 4 s"}


def test_three_gaps_with_reasons_and_the_rest_complete(
    tmp_path: Path, embedded_toy: Path, tiny_random: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "recipe.yaml"
    content = {
        "name": "broken",
        "datasets": [toy_in(tmp_path, embedded_toy)],
        "backbones": [tiny_random],
        "interventions": {"kinds": ["grayscale"]},
        "sweep": {
            "projections": ["pca"],
            "seeds": [0],
            "predictors": ["zero_shot", *(f"tests.broken:{name}" for name in BROKEN), "class_means"],
        },
        "run": {"store": str(tmp_path / "store"), "out": str(tmp_path / "out"), "trial_timeout": 4},
    }
    file.write_text(yaml.safe_dump(content))
    assert main(["run", str(file)]) == 2
    printed = capsys.readouterr()
    assert "icm-bench: 3 of 5 trials failed, the first (toy, " in printed.err
    assert "Traceback" not in printed.err
    written = [json.loads(p.read_text()) for p in (tmp_path / "store" / "failed").iterdir()]
    assert len(written) == 3
    (raised,) = [w["traceback"] for w in written if "broken:Raises" in w["trial"]]
    assert "tests/broken.py" in raised
    report = (tmp_path / "out" / "report.md").read_text()
    assert "PARTIAL: 2 of 5 trials are finished" in report
    for name, reason in BROKEN.items():
        (line,) = [line for line in report.splitlines() if line.startswith("- Gap: ") and f"broken:{name}" in line]
        assert reason in line
    rows = {p: p.stat().st_mtime_ns for p in (tmp_path / "store" / "rows").iterdir()}
    assert len(rows) == 2
    # Without the broken ones there is no gap, and nothing runs again.
    assert main(["sweep", str(file), "--set", "sweep.predictors=[zero_shot, class_means]"]) == 0
    assert {p: p.stat().st_mtime_ns for p in rows} == rows
