"""Conversion of result rows before version 8, which have one text instead of several columns.

The text contains the placebo, the share of pairs, and the variant of the projection. These rows also lack the
presentation of projection and predictor, so it is taken from the current classes. User-defined classes are not
imported; reports show them by name.
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
    """Return current column -> value for an old row, computed from its columns `_SAID` (see `store.rows`)."""
    projection, params, sentence, predictor, interventions = (value.as_py() for value in row)
    content = json.loads(interventions or "{}")
    placebo, _ = content.pop("placebo", {}), content.pop("pairs", None)
    found = _SENTENCE.fullmatch(sentence or "")
    assert found is not None  # the last group of the pattern matches any rest
    said: dict[str, Any] = {name: words or None for name, words in found.groupdict().items()}
    if share := said["pairs_share"]:
        said |= {"pairs_share": float(share) / 100, "pairs_seed": said["pairs_seed"] or "0"}
    said |= {"interventions": json.dumps(content) if content else None, "nuisance": json.loads(params).get("nuisance")}
    said |= {"placebo_seed": placebo.get("seed"), "lender": placebo.get("lender")}
    said |= presentation_of(PROJECTIONS, projection).columns("projection")
    return said | presentation_of(PREDICTORS, predictor).columns("predictor")


def presentation_of(registry: Registry[Any], name: str) -> Presentation:
    """Return the presentation of a component; if it is not part of this package, only its name as the label."""
    if name in registry.names():
        return presented(name, registry.component_class(name))
    traits = ("uses_training_images",) if registry is PREDICTORS else ()
    return Presentation(label="Imported" if name == IMPORTED else name, traits=traits)
