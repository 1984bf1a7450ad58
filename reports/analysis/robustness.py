"""How far a method is above what other backbones without intervention make expect at its accuracy on the sources.

Accuracy on held-out against accuracy on source environments, both averaged over held-out environments and seeds, lies
near a line on a logit scale over models (Miller et al., 2021, arXiv 2107.04649), and a robust model above it (Taori et
al., 2020, arXiv 2007.00644, section 2). Around the line stands a prediction interval: where one more backbone without
any intervention falls in 95 % of cases. A backbone takes no part in the line that it is held against.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtrit

from benchmark.method.evaluation.inference import CONFIDENCE
from benchmark.method.evaluation.metrics import Array
from reports.analysis.chosen import Selections
from reports.analysis.methods import PLAIN, Method
from reports.analysis.settings import Setting
from reports.analysis.whole import mean_beside, whole_estimate

MIN_BACKBONES = 8  # the evaluated one included
ZERO_SHOT, LINEAR_PROBE = (Method(PLAIN, None, predictor) for predictor in ("zero_shot", "linear_probe"))
_RULE = "training_domain"  # by which the points of a line are chosen: the rule that every row has a score of
_NEAREST = 1e-3  # of accuracies to 0 and 1: nearer ones count as this near, since logits have no end


@dataclass(frozen=True)
class Above:
    """Points above (or below) a line, and the ends of the prediction interval around it taken from the same accuracy.

    Attributes:
        points: accuracy less what the line makes expect.
        low: accuracy less the upper end of the prediction interval.
        high: accuracy less its lower end.
    """

    points: float
    low: float
    high: float


@dataclass(frozen=True)
class AccuracyLine:
    """The line of one method without intervention over backbones.

    Attributes:
        source: accuracy on the sources of each backbone other than the evaluated one, a fraction.
        target: its accuracy on what is held out.
        backbones: number of backbones with such rows, with the evaluated one; random weights and a second name of the
            same weights do not count.
    """

    source: tuple[float, ...] = ()
    target: tuple[float, ...] = ()
    backbones: int = 0

    @property
    def known(self) -> bool:
        """Whether there are backbones enough, and not all at the same accuracy on the sources."""
        return self.backbones >= MIN_BACKBONES and len(set(self.source)) > 1

    def expected(self, source: float) -> tuple[float, float, float]:
        """Return the accuracy that the line makes expect, and lower and upper end of its prediction interval.

        With n backbones at x (logits of source accuracies), residuals of variance s^2 = RSS / (n - 2) and Student's t
        with n - 2 degrees of freedom: t s sqrt(1 + 1 / n + (x_0 - mean)^2 / sum (x - mean)^2), in logits.

        Args:
            source: accuracy on the sources, a fraction.
        """
        x, y = _logit(np.array(self.source)), _logit(np.array(self.target))
        n, spread = len(x), float(((x - x.mean()) ** 2).sum())
        slope = float(((x - x.mean()) * y).sum()) / spread
        residual = y - y.mean() - slope * (x - x.mean())
        away = float(_logit(np.array(source))) - float(x.mean())
        middle = float(y.mean()) + slope * away
        half = float(stdtrit(n - 2, (1 + CONFIDENCE) / 2))
        half *= float(np.sqrt((residual**2).sum() / (n - 2) * (1 + 1 / n + away**2 / spread)))
        low, high = _share(middle - half), _share(middle + half)
        return _share(middle), low, high

    def above(self, source: float, target: float) -> Above | None:
        """Return how far an accuracy is above the line, in points; None where there is no line.

        Args:
            source: accuracy on the sources, a fraction.
            target: accuracy on what is held out.
        """
        if not self.known or np.isnan(source):
            return None
        middle, low, high = self.expected(source)
        return Above(100 * (target - middle), 100 * (target - high), 100 * (target - low))


@dataclass(frozen=True)
class Lines:
    """The lines of the methods without intervention, the evaluated backbone left out."""

    zero_shot: AccuracyLine = AccuracyLine()
    linear_probe: AccuracyLine = AccuracyLine()


def lines_of(parts: Iterable[tuple[Setting, Selections]]) -> list[Lines]:
    """Return the lines of each setting, in their order: through settings that differ from it in the backbone alone."""
    parts = list(parts)
    points: dict[object, dict[str, tuple[float, float]]] = {}
    for setting, selections in parts:
        for method in (ZERO_SHOT, LINEAR_PROBE):
            point = None if setting.random_weights else _point(selections, method)
            if point:
                key = (method, *_alike(setting, selections))
                points.setdefault(key, {})[setting.backbone_fingerprint] = point
    return [
        Lines(*(_line(points.get((m, *_alike(*part)), {}), part[0]) for m in (ZERO_SHOT, LINEAR_PROBE)))
        for part in parts
    ]


def _alike(setting: Setting, selections: Selections) -> tuple[object, ...]:
    return (setting.without_backbone, tuple(selections.held_outs))


def _point(selections: Selections, method: Method) -> tuple[float, float] | None:
    """Return a method's accuracy on sources and on what is held out, fractions; None where one is unknown."""
    estimate = whole_estimate(selections, selections.pooled(method, _RULE)) if method in selections.parts else None
    if estimate is None:
        return None
    picks = selections.picks(method, _RULE)
    source = mean_beside(picks[picks["seed"].isin(estimate.seeds)], "training_domain")
    target = float(estimate.means.mean())
    return None if np.isnan(source + target) else (source, target)


def _line(points: dict[str, tuple[float, float]], setting: Setting) -> AccuracyLine:
    others = [point for fingerprint, point in points.items() if fingerprint != setting.backbone_fingerprint]
    return AccuracyLine(tuple(x for x, _ in others), tuple(y for _, y in others), len(points))


def _logit(p: Array) -> Array:
    p = np.clip(p, _NEAREST, 1 - _NEAREST)
    return np.asarray(np.log(p / (1 - p)))


def _share(logit: float) -> float:
    return float(1 / (1 + np.exp(-logit)))
