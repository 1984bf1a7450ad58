"""Which trials a sweep runs, without Ray: those without rows, and those whose rows name tested images that are lost."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from benchmark.common.storage.files import Storage
from benchmark.method.evaluation.tested import Tested
from benchmark.method.predictors.zero_shot import ZeroShot
from benchmark.store.rows import failures, write_rows
from benchmark.store.tested import tested_file, write_tested
from benchmark.sweep import tune
from benchmark.sweep.batches import Batch
from benchmark.sweep.work import Ran
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
    spec = SimpleNamespace(protocol=SimpleNamespace(name="held_out"), predictor=ZeroShot())
    named = ("whole", "lost", "new", "torn")
    trials: Any = [SimpleNamespace(id=name, label=name, shares=(), sums=(), spec=spec) for name in named]
    options: Any = SimpleNamespace(trial_timeout=None)
    tune.sweep(storage, trials, options, "recipe")
    assert ran == ["lost", "new", "torn"]
    tune.sweep(storage, trials, options, "recipe")
    assert ran == ["lost", "new", "torn"]  # all are whole again


def test_what_a_batch_leaves_is_tried_once_more_alone_and_a_lost_node_is_no_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = Storage(str(tmp_path))
    images = Tested(np.arange(4), np.zeros(4, np.int64), np.arange(4) % 2, ("a",))
    trials: Any = [SimpleNamespace(id=name, label=name) for name in ("good", "flaky", "bad", "preempted")]
    alone: list[list[str]] = []

    def done(trial: Any) -> None:
        write_tested(storage, images)
        write_rows(storage, trial.id, [row(tested=images.hash)])

    def tuned(_given: tune.Given, trials: Any, batches: Any, watch: Any) -> list[Any]:
        """The batch dies after the first trial, then each is alone: one fails, and one loses its node twice."""
        if len(batches) == 1 and batches[0].count == 4:
            done(trials[0])
            watch.ran[0] = Ran(trials[0], 1.0, 1.0)
            return [(trials[0], RuntimeError("its process was killed"))]
        alone.append([trial.id for trial in trials])
        failed = []
        for trial in trials:
            if trial.id == "bad":
                failed.append((trial, RuntimeError("a predictor that is broken")))
            elif trial.id == "preempted" and len(alone) < 3:
                failed.append((trial, RuntimeError("The actor died because its node has died. Node Id: 5")))
            else:
                done(trial)
        return failed

    for name, value in {
        "share": lambda *_, **__: {},
        "gpu_count": lambda: 0,
        "ray": SimpleNamespace(cluster_resources=lambda: {"CPU": 2.0}),
        "batches_of": lambda trials, *_: [Batch(0, len(trials))],
        "costs_of": lambda *_: [],
        "_tune": tuned,
    }.items():
        monkeypatch.setattr(tune, name, value)
    options: Any = SimpleNamespace(trial_timeout=None, cpus_per_trial=1, loggers=())
    left = tune._run(storage, trials, options, "recipe", lambda _: None)
    assert alone == [["flaky", "bad", "preempted"], ["preempted"], ["preempted"]]
    assert left == ["bad"]
    bad = failures(storage, left)["bad"]
    assert bad.reason.startswith("RuntimeError (a predictor that is broken)")
    assert "a predictor that is broken" in bad.fault  # its traceback: no part of the user's own raised it
