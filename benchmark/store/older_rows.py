"""What rows of before version 8 say in a sentence, as columns.

The sentence says which placebo a row is of, which share of the pairs, and which variant of its projection. How reports
show projection and predictor no such row says: that is taken from the classes of this version. What is of the user's
own is not imported, and stands with the name that the rows have.
"""

import json
import re
from functools import lru_cache
from typing import Any

import pyarrow as pa

from benchmark.common.registry import Presentation, Registry, presented
from benchmark.method.evaluation.selection import IMPORTED
from benchmark.method.predictors import PREDICTORS
from benchmark.method.subspace import PROJECTIONS

_SENTENCE = re.compile(
    r"(?:(?P<placebo>rotated|matched|shuffled|borrowed)(?: (?P<placebo_draw>\d+))?(?:, |$))?"
    r"(?:(?P<pairs_share>[\d.e-]+) % of the pairs(?:, seed (?P<pairs_seed>\d+))?(?:, |$))?(?P<projection_variant>.*)"
)


@lru_cache(maxsize=4096)
def columns_of(*row: pa.Scalar) -> dict[str, Any]:
    """Return the columns of today for a row of then: for its `_SAID` of `benchmark.store.rows`."""
    projection, params, sentence, predictor, interventions = (value.as_py() for value in row)
    content = json.loads(interventions or "{}")
    placebo, _ = content.pop("placebo", {}), content.pop("pairs", None)
    found = _SENTENCE.fullmatch(sentence or "")
    assert found is not None  # the last group takes what the others leave
    said: dict[str, Any] = {name: words or None for name, words in found.groupdict().items()}
    if share := said["pairs_share"]:
        said |= {"pairs_share": float(share) / 100, "pairs_seed": said["pairs_seed"] or "0"}
    said |= {"interventions": json.dumps(content) if content else None, "nuisance": json.loads(params).get("nuisance")}
    said |= {"placebo_seed": placebo.get("seed"), "lender": placebo.get("lender")}
    said |= presentation_of(PROJECTIONS, projection).columns("projection")
    return said | presentation_of(PREDICTORS, predictor).columns("predictor")


def presentation_of(registry: Registry[Any], name: str) -> Presentation:
    """Return how reports show what rows name: the name alone, where it is none of this package."""
    if name in registry.names():
        return presented(name, registry.component_class(name))
    traits = ("uses_training_images",) if registry is PREDICTORS else ()
    return Presentation(label="Imported" if name == IMPORTED else name, traits=traits)
