"""Imported answers stay with their images: rows keep them environment by environment, whatever the manifest's order."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from benchmark.method.evaluation.embedded import Embedded
from benchmark.method.evaluation.protocols import PROTOCOLS
from benchmark.method.evaluation.selection import unpacked
from benchmark.method.evaluation.splits import Split
from benchmark.sweep import imported_predictions as imported


def test_answers_follow_their_images_where_environments_come_in_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(imported, "common_columns", lambda _: {})
    environment, label, nothing = np.arange(12) % 3, np.arange(12) // 3 % 2, np.zeros((12, 0), np.float32)
    data = Embedded(
        nothing, environment, label, {Split(0): np.ones(12, np.int64)}, nothing, ["a", "b", "c"], ["cat", "dog"]
    )
    subject = SimpleNamespace(facts=SimpleNamespace(dim=4))
    trial: Any = SimpleNamespace(spec=SimpleNamespace(split=Split(0), fold=None), subject=subject)
    images: Any = SimpleNamespace(data=data)
    answered = imported.Answered("", np.nan, np.where(np.arange(12) < 6, label, 1 - label))  # the first half is right
    for holdout in PROTOCOLS.create("held_out_pairs").holdouts(data.environments, ["full"]):
        test = imported.ImportedTest(trial, images, holdout, "full")
        evaluated = imported.imported_rows(test, "theirs", [answered])
        [row], [tested] = evaluated.rows, evaluated.tested
        assert (np.diff(tested.environment) >= 0).all()
        np.testing.assert_array_equal(unpacked(row)[0], tested.position < 6)
