"""Estimated accuracies of environments without labels: numbers alone."""

import math
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Estimated:
    """What is estimated of one method on one environment that is no source, mean over seeds; shares from 0 to 1.

    Attributes:
        dataset: name of the data set.
        backbone: label of the backbone.
        method: what predicts.
        environment: where.
        sources: number of environments that are fitted on.
        source: accuracy on images of the sources that no fit has seen.
        atc: by average thresholded confidence.
        agreement: by agreement on the line; NaN with fewer than three methods.
        accuracy: the truth; NaN where the environment has no labels.
    """

    dataset: str
    backbone: str
    method: str
    environment: str
    sources: int
    source: float
    atc: float
    agreement: float
    accuracy: float

    @property
    def is_labelled(self) -> bool:
        """Whether the truth is known."""
        return not math.isnan(self.accuracy)

    def error(self, way: str) -> float:
        """Return how far an estimate is from the truth, as a share."""
        return abs(float(getattr(self, way)) - self.accuracy)

    def content(self) -> dict[str, Any]:
        """Return it as plain data, with None for what is not known."""
        return {k: None if isinstance(v, float) and math.isnan(v) else v for k, v in asdict(self).items()}
