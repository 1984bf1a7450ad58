"""Labels of published methods, from the names in a record alone."""

from benchmark.common.registry import presented
from benchmark.method.evaluation.selection import IMPORTED
from benchmark.method.predictors import PREDICTORS
from benchmark.method.subspace import PROJECTIONS
from benchmark.results.records import Details
from reports.analysis.methods import Method


def label_of(details: Details) -> str:
    """Return the label that reports give a record's method; empty if its projection or predictor is a user's class."""
    if details.projection == IMPORTED:
        return Method(IMPORTED, None, details.predictor).label
    predictor, _, variant = details.predictor.removesuffix(")").partition(" (")
    if details.projection not in PROJECTIONS.names() or predictor not in PREDICTORS.names():
        return ""
    return Method(
        details.projection, details.order, predictor, details.variant or None, variant or None,
        of_projection=presented(details.projection, PROJECTIONS.component_class(details.projection)),
        of_predictor=presented(predictor, PREDICTORS.component_class(predictor)),
    ).label  # fmt: skip
