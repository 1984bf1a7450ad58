"""Trials in this process give the files that they give on Ray, byte by byte."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmark.commands import in_memory
from benchmark.commands.interchange.import_embeddings import import_read, new_recipe
from benchmark.commands.interchange.read_embeddings import ImportOptions
from benchmark.commands.preparing.imported_sets import imported_subject, manifests_of
from benchmark.commands.run import run
from benchmark.common.storage.files import Storage
from benchmark.recipe.loading import parse_recipe
from benchmark.sweep import summing
from benchmark.sweep.serial import sweep_here
from benchmark.sweep.trials import trials_of

SETS = [
    {"name": "all"},
    {"name": "one", "pairing": "random_one"},
    {"name": "half", "pairs": 0.5},
    {"name": "crossed", "kinds": ["cross_environment", "fog"]},
    {"name": "shuffled", "placebo": "shuffled"},
    {"name": "turned", "placebo": "rotated"},
]
SWEEPS: dict[str, dict[str, Any]] = {
    "folds": {
        "folds": 3, "seeds": [0], "projections": ["identity", "icm", "shrinkage"], "predictors": ["zero_shot"],
        "intervention_sets": SETS, "normalize": ["before"],
    },
    "80/20 splits": {
        "seeds": [0, 1], "projections": ["identity", "pca", "icm"], "lambdas": [1], "ranks": [4, 8],
        "normalize": ["none", "before"], "predictors": ["zero_shot", "linear_probe", "probe_with_views"],
        "protocols": ["held_out", "in_domain"],
    },
}  # fmt: skip


def arrays(images: int, seed: int = 0) -> tuple[Any, ...]:
    """Return made-up embeddings, labels, environments, texts and two views."""
    rng = np.random.default_rng(seed)
    labels, environments = rng.integers(3, size=images), rng.choice(["a", "b", "c"], size=images)
    texts = rng.normal(size=(3, 8))
    z, *views = (texts[labels] + 2 * rng.normal(size=(images, 8)) for _ in range(3))
    return z, labels, environments, texts, dict(zip(("fog", "grayscale"), views, strict=True))


def contents(store: Path) -> dict[str, bytes]:
    kept = ("rows", "tested")
    return {str(f.relative_to(store)): f.read_bytes() for name in kept for f in (store / name).rglob("*.*")}


@pytest.mark.usefixtures("local_ray")
@pytest.mark.parametrize("share", [0.0, 1e9])  # Ray's workers sum, or read the store
@pytest.mark.parametrize("name", SWEEPS)
def test_the_files_equal_those_of_ray(name: str, share: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(summing, "MAX_SHARE", share)
    read = in_memory._read(*arrays(90), None, None)
    stores = [tmp_path / "here", tmp_path / "ray"]
    for store in stores:
        content = new_recipe(import_read(Storage(str(store)), read, ImportOptions("mine", "own")), None)
    recipe = parse_recipe({**content, "sweep": SWEEPS[name], "run": {"store": str(stores[1])}})
    run(recipe, notify=lambda _: None)
    storage = Storage(str(stores[0]))
    (manifest,) = manifests_of(recipe, storage)
    trials = trials_of(recipe, [imported_subject(recipe, storage, manifest, recipe.backbones[0])])
    sweep_here(storage, trials)
    here, there = map(contents, stores)
    assert len(here) > len(trials) > 5
    assert here.keys() == there.keys()
    assert any((stores[1] / "sums").rglob("*.safetensors")) == bool(share)
    assert [file for file in here if here[file] != there[file]] == []
