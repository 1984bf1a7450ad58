"""From a trial to its rows, without Ray: seeds, settings, folds and facts of the backbone arrive where they belong."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from benchmark.common.storage.files import Storage
from benchmark.method.arrays import scaled
from benchmark.method.evaluation.cells import cells_of
from benchmark.method.evaluation.fits import parts_of, turns_of
from benchmark.method.evaluation.protocols import PROTOCOLS
from benchmark.method.evaluation.selection import unpacked
from benchmark.method.evaluation.splits import Split
from benchmark.method.predictors import PREDICTORS
from benchmark.method.subspace import PROJECTIONS
from benchmark.store import embeddings as store
from benchmark.sweep import loading
from benchmark.sweep.evaluate import Evaluated, Inputs, evaluate
from benchmark.sweep.trials import TrialSpec
from tests.method.predictors.test_reference import D, synthetic


def evaluated(projection: Any, predictor: Any, seed: int = 0, fold: int | None = None) -> Evaluated:
    """The rows of one trial on synthetic embeddings."""
    data, folds = synthetic()[0], 0 if fold is None else 5
    layout, side = data.layout(Split(0, folds=folds)), data.side[Split(0, folds=folds)]
    split = Split(seed, folds=folds)
    data = replace(data, side={split: side})
    spec = TrialSpec(
        protocol=PROTOCOLS.create("held_out"),
        test_splits=("out_20",) if fold is None else ("out_fold",),
        intervention_set=None,
        projection=PROJECTIONS.create(projection),
        normalize="none",
        predictor=PREDICTORS.create(predictor),
        seed=seed,
        lambdas=(0.0,),
        ranks=(2, D),
        folds=folds,
        fold=fold,
    )
    manifest = SimpleNamespace(
        name="toy", fingerprint="f", groups=None, classes=data.classes, environments=data.environments, shared_images=3
    )
    facts = SimpleNamespace(label="b", fingerprint="w", random_weights=True, precision="fp32", dim=D)
    of_set = {"name": "toy", "clusters": 0, "manifest": manifest}
    subject = SimpleNamespace(**of_set, facts=facts, prompts=("{}",), weights_of=lambda _: None)
    trial = SimpleNamespace(
        spec=spec, subject=subject, variants=(), holdouts=spec.holdouts(data.environments), id="t", interventions=None, view_draw=2,
        recipe_hash="r", images="i", lender=None,
    )  # fmt: skip
    turns = turns_of(split, grouped=False, fold=fold).values()
    cells = cells_of(layout, scaled(data.z, "none"), {}).joined(parts_of(turns))
    return evaluate(trial, Inputs(data, cells))  # type: ignore[arg-type]


def answers(result: Evaluated) -> list[list[bool]]:
    return [unpacked(row)[0].tolist() for row in result.rows]


def test_the_random_basis_varies_with_the_trials_seed_and_fold() -> None:
    assert answers(evaluated("random", "zero_shot", 0)) == answers(evaluated("random", "zero_shot", 0))
    assert answers(evaluated("random", "zero_shot", 0)) != answers(evaluated("random", "zero_shot", 1))
    first, second = (evaluated("random", "zero_shot", 0, fold) for fold in (0, 1))
    assert [row["fold"] for row in (*first.rows, *second.rows)] == [0] * 4 + [1] * 4
    assert {(row["n_shared"], row["view_draw"]) for row in first.rows} == {(3, 2)}


def test_what_a_predictor_draws_varies_with_the_trials_seed() -> None:
    few = {"name": "few_shot", "shots": 1, "C": 3.16}
    assert answers(evaluated("identity", few, 0)) == answers(evaluated("identity", few, 0))
    assert answers(evaluated("identity", few, 0)) != answers(evaluated("identity", few, 1))


def test_every_setting_of_a_predictor_has_rows_of_its_own() -> None:
    result = evaluated("identity", {"name": "linear_probe", "C": [0.316, 31.6]})
    by_setting = {row["predictor_params"] for row in result.rows}
    assert len(by_setting) == 2
    assert len(result.rows) == 2 * 4
    assert len(result.tested) == 4
    assert {row["tested"] for row in result.rows} == {images.hash for images in result.tested}
    assert all(row["labels_fit"] == row["n_train"] for row in result.rows)


@pytest.mark.parametrize("logit_scale", [12.5, 100.0])
def test_the_backbones_logit_scale_reaches_the_predictor(
    logit_scale: float, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage, ids = Storage(str(tmp_path)), ["a", "b", "c"]
    view = store.view_of("data", 3, {"fingerprint": "weights"}, None, 0)
    values = pa.FixedSizeListArray.from_arrays(pa.array(np.arange(6, dtype=np.float32)), 2)
    store.write_part(storage, view, 0, pa.table({"image_id": ids, "embedding": values}), [])
    monkeypatch.setattr(loading, "read_texts", lambda *_: np.eye(2, dtype=np.float32))
    manifest = SimpleNamespace(
        table=pa.table({"image_id": ids, "label": [0, 1, 0]}), environment_index=np.array([0, 0, 1]), groups=None,
        environments=["x", "y"], classes=["p", "q"],
    )  # fmt: skip
    facts = SimpleNamespace(logit_scale=logit_scale, dim=2)
    subject = SimpleNamespace(manifest=manifest, views=(view,), facts=facts, texts="")
    data, images = loading.load._function(storage, subject, (Split(0),))
    assert data.logit_scale == logit_scale
    np.testing.assert_array_equal(data.z, np.arange(6).reshape(3, 2))
    assert data.position.tolist() == [0, 1, 2]
    assert images.ids == ids
