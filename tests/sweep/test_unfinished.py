"""Which trials a sweep runs, without Ray: those without rows, and those whose rows name tested images that are lost."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from benchmark.common.storage import Storage
from benchmark.method.evaluation.tested import Tested
from benchmark.store.rows import write_rows
from benchmark.store.tested import tested_file, write_tested
from benchmark.sweep import tune
from tests.reports.synthetic import row


def test_a_sweep_runs_what_has_no_rows_and_what_has_lost_its_tested_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage, n = Storage(str(tmp_path)), np.arange(40)
    tests = {
        name: Tested(n + i, np.zeros(40, np.int64), n % 2, ("a",)) for i, name in enumerate(("whole", "lost", "torn"))
    }
    for name, images in tests.items():
        write_tested(storage, images)
        write_rows(storage, name, [row(tested=images.hash)])
    ran: list[str] = []

    def noted(_storage: Storage, trials: Any, *_: Any) -> list[Any]:
        """What Tune would do: rows, and the images that they are of."""
        for trial in trials:
            ran.append(trial.id)
            write_tested(storage, tests.get(trial.id, tests["whole"]))
            write_rows(storage, trial.id, [row(tested=tests.get(trial.id, tests["whole"]).hash)])
        return []

    monkeypatch.setattr(tune, "_run", noted)
    monkeypatch.setattr(tune, "connect", lambda: None)
    (tmp_path / tested_file(tests["lost"].hash)).unlink()
    (tmp_path / tested_file(tests["torn"].hash)).write_bytes(b"PAR1 and no more")
    trials: Any = [
        SimpleNamespace(id=name, label=name, shares=(), sums=()) for name in ("whole", "lost", "new", "torn")
    ]
    options: Any = SimpleNamespace(trial_timeout=None)
    tune.sweep(storage, trials, options, "recipe")
    assert ran == ["lost", "new", "torn"]
    tune.sweep(storage, trials, options, "recipe")
    assert ran == ["lost", "new", "torn"]  # all are whole again
