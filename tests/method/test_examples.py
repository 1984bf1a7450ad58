"""Docstring examples of all public names of the method, run by pytest."""

from typing import Any

import pytest

from benchmark.backbones.projected_encoder import ProjectedEncoder
from benchmark.backbones.projection_files import read_projection, write_projection
from benchmark.method.evaluation.metrics import Metric
from benchmark.method.interventions import Intervention
from benchmark.method.predictors import Predictor, Problem
from benchmark.method.subspace import (
    InvariantProjection,
    Moments,
    Projection,
    Shrinkage,
    SourceMoments,
    invariant_basis,
)
from benchmark.method.subspace.invariant import ICM


@pytest.mark.parametrize(
    "public",
    [
        InvariantProjection, invariant_basis, Moments, SourceMoments, Projection, Projection.at, ICM, Intervention,
        Metric, Predictor, Problem, read_projection, write_projection, ProjectedEncoder, Shrinkage,
    ],
    ids=lambda public: public.__qualname__,
)  # fmt: skip
def test_the_docstring_has_an_example(public: Any) -> None:
    assert "Example:" in public.__doc__
    assert ">>> " in public.__doc__
