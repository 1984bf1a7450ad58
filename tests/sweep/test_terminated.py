"""SIGTERM during a sweep: ended within seconds like by Ctrl-C, with exit code 143, the reasons kept and nobody left."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import REPOSITORY, toy_in
from tests.processes import descendants

pytestmark = [
    pytest.mark.long("a sweep that is terminated leaves processes behind"),
    pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="processes are found through /proc"),
]
SECONDS = 3.0  # in which it ends on an idle machine


def test_a_terminated_sweep_keeps_reasons_and_leaves_nobody_behind(
    tmp_path: Path, embedded_toy: Path, tiny_random: dict[str, Any]
) -> None:
    content = {
        "name": "terminated",
        "datasets": [toy_in(tmp_path, embedded_toy)],
        "backbones": [tiny_random],
        "interventions": {"kinds": ["grayscale"]},
        "sweep": {"seeds": [0], "projections": ["pca"], "predictors": ["tests.broken:Raises", "tests.broken:Hangs"]},
        "run": {"store": str(tmp_path / "store")},
    }
    file, store = tmp_path / "recipe.yaml", tmp_path / "store"
    file.write_text(yaml.safe_dump(content))
    command = [sys.executable, "-m", "benchmark.cli", "sweep", str(file)]
    run = subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    end = time.monotonic() + 120
    while not (failed := list((store / "failed").glob("[!.]*.json"))) and run.poll() is None:
        assert time.monotonic() < end
        time.sleep(0.05)
    assert run.poll() is None  # the other trial hangs
    others = [pid for pid, _ in descendants(run.pid)]
    assert others
    began = time.monotonic()
    run.send_signal(signal.SIGTERM)
    output, error = run.communicate(timeout=60)
    took = time.monotonic() - began
    assert run.returncode == 143, error
    assert output == ""
    assert error.splitlines()[-1].startswith("icm-bench: interrupted; finished work is kept")
    assert "Traceback" not in error
    assert "***" not in error  # as Ray's C++ begins its traces
    print(f"ended after {took:.1f} s")
    assert took < SECONDS * max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))
    left = [pid for pid in others if Path(f"/proc/{pid}").exists()]
    end = time.monotonic() + 10
    while left and time.monotonic() < end:
        time.sleep(0.1)
        left = [pid for pid in left if Path(f"/proc/{pid}").exists()]
    assert left == []
    (reason,) = (json.loads(one.read_text())["reason"] for one in failed)
    assert reason.startswith("tests.broken:Raises raised RuntimeError (this predictor is broken) at /")
