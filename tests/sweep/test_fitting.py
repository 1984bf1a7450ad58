"""What may leave the suite: one linear map of all images."""

from typing import Any, cast

import numpy as np
import pytest

from benchmark.common.errors import IcmBenchError
from benchmark.method.subspace import PROJECTIONS, Moments, Projection, SourceMoments
from benchmark.sweep.fitting import Choice, Fitting
from tests.method.prompted import prompted


def two_environments(projection: Projection) -> SourceMoments:
    z, labels = np.random.default_rng(0).standard_normal((2, 30, 4)) + 1, np.arange(30) % 2
    environments = {e: Moments.of(x, {"half": x / 2}, labels, 2) for e, x in zip("ab", z, strict=True)}
    prompts = prompted(projection, "pq", "ab", 1, 4)
    return SourceMoments(environments, prompts=prompts.visible([0, 1], ["base", "new"]) if prompts else None)


@pytest.mark.parametrize("name", PROJECTIONS.names())
def test_what_subtracts_a_mean_or_maps_each_environment_otherwise_is_named(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    projection = PROJECTIONS.create(name).settings[-1].at(lambda_=0.5)
    monkeypatch.setattr(Fitting, "moments", lambda *_: two_environments(projection))
    fitting = Fitting.__new__(Fitting)  # which needs no store then
    choice = Choice(cast(Any, None), projection, None, "none", 0)
    if name in ("centring", "own_mean", "coral"):
        with pytest.raises(IcmBenchError, match=f"{name}.* is not one linear map for all images"):
            fitting.basis(choice)
    else:
        assert fitting.basis(choice).is_linear
