"""Every projection that ships runs in a sweep."""

from pathlib import Path
from typing import Any

import pytest

import benchmark
from benchmark.method.subspace import PROJECTIONS
from benchmark.recipe.loading import parse_recipe
from tests.conftest import toy_in


@pytest.mark.long("a projection that ships asks for what a sweep does not give it")
def test_every_projection_of_the_registry_runs_in_a_sweep(
    embedded_toy: Path, tiny_random: dict[str, Any], tmp_path: Path
) -> None:
    content = {
        "name": "every",
        "datasets": [toy_in(tmp_path, embedded_toy)],
        "backbones": [tiny_random],
        "interventions": {"kinds": ["grayscale", "gaussian_blur"]},
        "sweep": {
            "projections": PROJECTIONS.names(), "seeds": [0], "lambdas": [2],
            "predictors": ["ridge", "class_means", {"name": "tip_adapter", "shots": 4}],
        },
        "run": {"store": str(tmp_path / "store")},
    }  # fmt: skip
    outcome = benchmark.run(parse_recipe(content))
    assert (outcome.trials, outcome.embedded) == (3 * len(PROJECTIONS.names()), 0)
