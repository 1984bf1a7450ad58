"""SYNTHETIC result rows: invented correctness that tests the arithmetic of reports. No model was run.

Rows are as consistent as a sweep's: accuracies follow from correctness, and `TESTED` has the test images.
"""

import json
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from benchmark.common.registry import Presentation, Registry, presented
from benchmark.method.evaluation.selection import IMPORTED, measured, packed
from benchmark.method.evaluation.tested import Tested
from benchmark.method.predictors import PREDICTORS
from benchmark.method.subspace import PROJECTIONS
from benchmark.store.rows import frame_of, schema
from reports.analysis.selections import Selections
from reports.analysis.settings import Setting, by_setting

RANKS = (1, 2, 4)
TESTED: dict[str, Tested] = {}  # hash -> tested images, of every row made so far
_APART = 10_000_000  # positions between the first images of two environments


def presentation_of(registry: Registry[Any], name: str) -> Presentation:
    """Return the presentation of a component; if it is not part of this package, only its name as the label."""
    if name in registry.names():
        return presented(name, registry.component_class(name))
    traits = ("uses_training_images",) if registry is PREDICTORS else ()
    return Presentation(label="Imported" if name == IMPORTED else name, traits=traits)


def row(
    *,
    held_out: str = "art",
    seed: int = 0,
    projection: str = "identity",
    order: str | None = None,
    predictor: str = "zero_shot",
    target: Sequence[float] = (0.5,),
    training_domain: Sequence[float] | None = None,
    lodo: Sequence[float] | None = (),
    correct: npt.ArrayLike | None = None,
    n_test: int = 100,
    environments: Sequence[tuple[str, int]] | None = None,
    groups: Sequence[int] | None = None,
    first: int | None = None,
    labels: Sequence[int] | None = None,
    **other: Any,
) -> dict[str, Any]:
    """Return one invented row, and store its test images in `TESTED`.

    Args:
        held_out: held-out environment, also that of the test images unless `environments` is given.
        seed: seed of the split. All seeds test the same images unless `first` differs.
        projection: column of the row.
        order: column of the row.
        predictor: column of the row.
        target: accuracy at each rank (the last of 1, 2, 4): the first images are correct, rounded to `n_test` images.
        training_domain: scores of that rule; default `target`.
        lodo: scores of that rule; default `target`; None for a single source.
        correct: correctness of each image, at the only rank or by rank, instead of `target`.
        n_test: number of test images; default 100, or the length of `correct`.
        environments: (name, number of images) of the tested environments, in order.
        groups: group of each image, for a grouped data set.
        first: index of the first test image in each environment; default 0, or fold * n_test with folds.
        labels: class of each image; by default classes alternate; harmonic rows have base images, then as many new
            ones.
        **other: any other columns. Presentations of projection and predictor come from their classes.
    """
    if correct is not None:
        answers = np.atleast_2d(np.asarray(correct, dtype=bool))
        n_test = answers.shape[1]
        target = answers.mean(axis=1).tolist() if target == (0.5,) else target
        answers = np.broadcast_to(answers, (len(target), n_test))
    else:
        answers = np.array([np.arange(n_test) < round(share * n_test) for share in target])
    presented = presentation_of(PROJECTIONS, projection).columns("projection")
    presented |= presentation_of(PREDICTORS, predictor).columns("predictor")
    params = json.loads(other.get("projection_params", "{}"))
    presented["nuisance"] = params.get("nuisance") if isinstance(params, dict) else None
    presented["dim"] = 8 if len(target) == 1 and projection != "identity" else 4  # a single rank is not the full rank
    columns = {**_BASE, **presented, "grouped": groups is not None, **other}
    first = max(0, columns["fold"]) * n_test if first is None else first
    images = _tested(environments or [(held_out, n_test)], first, groups, labels, columns)
    TESTED[images.hash] = images
    values = {
        "trial_id": f"{projection}-{order}-{predictor}-{held_out}-{seed}-{columns['fold']}",
        "projection": projection,
        "order": order,
        "predictor": predictor,
        "held_out": held_out,
        "seed": seed,
        "n_test": n_test,
        "tested": images.hash,
        "ranks": list(RANKS[-len(target) :]),
        "training_domain": list(training_domain or target),
        "lodo": None if lodo is None else list(lodo or target),
        "correct": packed(answers),
    }
    values |= {
        name: of_ranks.tolist() for name, of_ranks in measured([*answers], [images] * len(answers), columns).items()
    }
    return {**dict.fromkeys(schema().names), **columns, **values, **other}


def frame(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """Return the rows in the format of `benchmark.store.rows.read_rows`, with list columns and missing values."""
    return frame_of(pa.Table.from_pylist(rows, schema=schema()))


def results_of(rows: list[dict[str, Any]]) -> list[tuple[Setting, Selections]]:
    """Return the settings of rows, each with its selections."""
    return [(setting, Selections(part, TESTED)) for setting, part in by_setting(frame(rows))]


def only(rows: list[dict[str, Any]]) -> tuple[Setting, Selections]:
    """Return the only setting of rows."""
    [one] = results_of(rows)
    return one


_BASE: dict[str, Any] = {
    "dataset": "synthetic",
    "dataset_fingerprint": "data0",
    "backbone": "ViT-B-32",
    "backbone_fingerprint": "weights0",
    "random_weights": False,
    "precision": "fp32",
    "prompts": json.dumps(["a photo of a {}."]),
    "projection_params": "{}",
    "normalize": "none",
    "predictor_params": "{}",
    "protocol": "held_out",
    "test_split": "out_20",
    "class_half": "all",
    "folds": 0,
    "fold": -1,
    "view_draw": 0,
    "classes": ["cat", "dog"],
    "n_classes": 2,
    "n_base": 1,
    "n_sources": 2,
    "n_train": 1000,
    "n_shared": 0,
    "clusters": None,
    "labels_fit": 0,
    "labels_choice": 200,
    "notes": [],
    "recipe_hash": "recipe0",
    "code_version": "0",
}


def _tested(
    environments: Sequence[tuple[str, int]],
    first: int,
    groups: Sequence[int] | None,
    labels: Sequence[int] | None,
    columns: dict[str, Any],
) -> Tested:
    starts = [zlib.crc32(name.encode()) * _APART for name, _ in environments]
    sizes = [n for _, n in environments]
    n = sum(sizes)
    halves = {"base": np.zeros(n), "new": np.ones(n), "harmonic": np.arange(n) >= n // 2}
    own = halves.get(columns["class_half"], np.arange(n) % columns["n_classes"]) if labels is None else labels
    return Tested(
        position=np.concatenate([s + first + np.arange(m) for s, m in zip(starts, sizes, strict=True)]),
        environment=np.repeat(np.arange(len(sizes)), sizes),
        label=np.asarray(own).astype(np.int64),
        names=tuple(name for name, _ in environments),
        group=None if groups is None else np.asarray(groups, dtype=np.int64),
    )
