"""What a reader of a report may ask for."""

from dataclasses import dataclass

from benchmark.method.evaluation.inference import MARGIN, PlusMinus


@dataclass(frozen=True)
class Options:
    """What a reader of a report may ask for.

    Attributes:
        plus_minus: what stands behind ± in tables: `images`, the cluster-robust standard error, or `seeds`, DomainBed's
            standard error over seeds.
        margin: within which two accuracies count as level, as a fraction; default one point.
    """

    plus_minus: PlusMinus = "images"
    margin: float = MARGIN
