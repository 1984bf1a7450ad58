"""Shares of the shift removed by a fit in rows, against explicit class means."""

from typing import Any

import numpy as np
import pytest

from benchmark.method.arrays import unit
from benchmark.method.evaluation.cells import cells_of
from benchmark.method.evaluation.evaluation import Evaluation, FitSettings, Method
from benchmark.method.evaluation.protocols import PROTOCOLS
from benchmark.method.evaluation.spans import Spans
from benchmark.method.evaluation.splits import IN, Split
from benchmark.method.predictors.zero_shot import ZeroShot
from benchmark.method.subspace import PROJECTIONS, Projection
from benchmark.method.subspace.placebos import Rotated, haar
from tests.method.evaluation.test_protocols import LAMBDA, NAMES, RANKS, D, basis_of, curves_of, split_of, synthetic
from tests.method.subspace.test_shift import reference


@pytest.mark.parametrize("fold", [None, 2])
def test_shares_are_those_of_the_class_means_of_the_images_that_the_tested_fit_has(fold: int | None) -> None:
    """With folds these are more than those by which rules choose."""
    data, views = synthetic()
    z, view = (unit(x.astype(np.float64)) for x in (data.z, views["view"]))
    side = data.side[split_of("held_out", fold)]
    fitted = side == IN if fold is None else side != fold
    rows = [fitted & (data.environment == e) for e in range(4)]
    environments = [(z[here], data.label[here]) for here in rows]
    for curve in curves_of(data, views, "held_out", "zero_shot", fold=fold):
        h = NAMES.index(curve.held_out)
        sources = [one for e, one in enumerate(environments) if e != h]
        train = fitted & (data.environment != h)
        c_z, c_d = (x[train].T @ x[train] / train.sum() for x in (z, z - view))
        of = {"sources": reference(sources, sources), "target": reference([environments[h]], sources)}
        v, spans = basis_of(z, view, train), curve.spans
        for i, k in enumerate(RANKS):
            dropped = np.eye(D) - v[:, :k] @ v[:, :k].T
            for name, c in (("energy_removed", c_z), *((f"shift_removed_{n}", s) for n, s in of.items())):
                share = np.trace(dropped @ c) / np.trace(c)
                assert getattr(spans, name)[i] == pytest.approx(share, abs=1e-6)
        for name, s in of.items():
            along = (np.trace(s @ c_d) / np.trace(s @ c_z)) / (np.trace(c_d) / np.trace(c_z))
            assert getattr(spans, f"shift_moved_{name}") == pytest.approx(along)


@pytest.mark.parametrize("protocol", ["in_domain", "open_class"])
def test_what_is_fitted_on_the_tested_environment_has_no_shift_to_it(protocol: str) -> None:
    data, views = synthetic()
    for curve in curves_of(data, views, protocol, "zero_shot"):
        assert curve.spans.shift_removed_target is None
        assert curve.spans.shift_moved_target is None
        assert (curve.spans.shift_removed_sources is None) == (protocol == "in_domain")  # one source is all there is
        assert curve.spans.energy_removed is not None


def spans_with(projection: Projection, placebo: Any = None, interventions: bool = True) -> Spans:
    data, views = synthetic()
    cells = cells_of(data.layout(Split(0)), data.z, views if interventions else {})
    holdouts = PROTOCOLS.create("held_out").holdouts(data.environments, ["full"])[:1]
    method = Method(projection, ZeroShot(), RANKS, None, placebo)
    (curve,) = Evaluation(data, cells, FitSettings(Split(0), "none")).curves(method, holdouts)
    return curve.spans


def test_a_placebo_of_c_d_is_what_is_looked_at_in_its_rows() -> None:
    icm = PROJECTIONS.create("icm").at(lambda_=LAMBDA)
    real, placebo = spans_with(icm), spans_with(icm, Rotated(0, 1))
    data, views = synthetic()
    train = (data.environment != 0) & (data.side[Split(0)] == IN)
    z, d = data.z[train].astype(np.float64), (data.z - views["view"])[train].astype(np.float64)
    own = [(data.environment[train] == e) for e in (1, 2, 3)]
    parts = [(z[rows], data.label[train][rows]) for rows in own]
    s, q = reference(parts, parts), haar(D, 0, 1)
    for spans, c_d in ((real, d.T @ d), (placebo, q @ d.T @ d @ q.T)):
        along = (np.trace(s @ c_d) / np.trace(s @ z.T @ z)) / (np.trace(c_d) / np.trace(z.T @ z))
        assert spans.shift_moved_sources == pytest.approx(along)


def test_without_interventions_nothing_is_moved_and_the_plain_space_removes_nothing() -> None:
    plain = spans_with(PROJECTIONS.create("identity"), interventions=False)
    assert plain.shift_moved_sources is plain.shift_moved_target is None
    assert plain.shift_removed_sources is not None
    assert plain.energy_removed is not None
    np.testing.assert_allclose([plain.energy_removed[-1], plain.shift_removed_sources[-1]], 0, atol=1e-12)
    assert spans_with(PROJECTIONS.create("own_mean")) == Spans()  # no linear map
