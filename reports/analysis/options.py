"""What a reader of a report may ask for."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from benchmark.method.evaluation.inference import MARGIN, PlusMinus
from benchmark.method.evaluation.metrics import BUILT_IN, Metric


@dataclass(frozen=True)
class Options:
    """What a reader of a report may ask for.

    Attributes:
        plus_minus: what stands behind ± in tables: `images`, the cluster-robust standard error, or `seeds`, DomainBed's
            standard error over seeds.
        margin: within which two accuracies count as level, as a fraction; default one point.
        compare: labels of methods, method and baseline, that come first in the answer, each with its gain, and are
            compared with each other; by default none.
        published: whether numbers are held against published ones; default False.
        price: of an hour of a GPU, in any currency, which adds the table of costs; None (default) for no such table.
        paper: whether all of it is also written as one paper; numbers are then held against published ones. Default
            False.
        color: whether the terminal's headline may be bold; default False.
        metrics: that tables show; by default the built-in ones.
        metric_of: data set, as rows call it -> its metric, where that is not accuracy.
        tables: of the user's own, each as "module:TABLE", see `reports.tables.spec`; by default none.
    """

    plus_minus: PlusMinus = "images"
    margin: float = MARGIN
    compare: tuple[tuple[str, str], ...] = ()
    published: bool = False
    price: float | None = None
    color: bool = False
    paper: bool = False
    metrics: tuple[Metric, ...] = BUILT_IN
    metric_of: Mapping[str, Metric] = field(default_factory=dict)
    tables: tuple[str, ...] = ()
