"""Forests of the page: a line for each difference, placed in percent of the width, so that text keeps its size."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from benchmark.method.evaluation.metrics import ACCURACY, Metric
from reports.analysis.comparisons import Comparison
from reports.analysis.verdicts import Verdict
from reports.text.sentences import p_words

MINUS = "−"


@dataclass(frozen=True)
class Difference:
    """What a line of a forest shows.

    Attributes:
        group: title of the lines that it stands among; empty where all are one group.
        name: of the method, or of the baseline that is subtracted from it.
        made: the comparison.
        judged: whether its adjusted p-value says what is shown.
        metric: what is compared.
    """

    group: str
    name: str
    made: Comparison
    judged: bool
    metric: Metric = ACCURACY

    @property
    def points(self) -> tuple[float, float | None, float | None]:
        """Estimate and ends of the interval as they are shown; None without one."""
        one, shown = self.made.interval, self.metric.shown
        has_ends = one.standard_error > 0 and not math.isnan(one.low)
        return (shown(one.estimate), *((shown(one.low), shown(one.high)) if has_ends else (None, None)))

    def mark(self, reach: float) -> dict[str, Any]:
        """Return how it is drawn on a scale, and what stands beside it.

        Args:
            reach: either end of the scale, in points.
        """
        (estimate, low, high), adjusted = self.points, self.made.adjusted
        has_ends, sign = low is not None and high is not None, "better" if estimate > 0 else "worse"
        return {
            "name": self.name,
            "kind": "other" if not self.judged else sign if adjusted.differs else "open",
            "x": _place(estimate, reach),
            "ends": (_place(low, reach), _place(high, reach)) if low is not None and high is not None else None,
            "text": f"{signed(estimate)}{f' [{signed(low)}, {signed(high)}]' if has_ends else ''}",
            "p": "" if math.isnan(adjusted.p) else p_words(adjusted.p),
        }


def forest(differences: Sequence[Difference]) -> dict[str, Any] | None:
    """Return differences by group on one scale, with even ticks on either side of 0; None without any."""
    if not differences:
        return None
    reach, step = _scale(max(abs(v) for one in differences for v in one.points if v is not None))
    groups: dict[str, list[dict[str, Any]]] = {}
    for one in differences:
        groups.setdefault(one.group, []).append(one.mark(reach))
    ticks = [k * step for k in range(-round(reach / step), round(reach / step) + 1)]
    return {"groups": groups, "ticks": [(_place(v, reach), signed(v, 1 if step < 1 else 0)) for v in ticks]}


def every_comparison(verdicts: Iterable[Verdict]) -> dict[str, Any] | None:
    """Return a forest of all that judged methods are compared with, a group for each; None without any."""
    found = []
    for one in verdicts:
        group, others = f"{one.name} · {one.where}", ((made, ACCURACY) for made in one.others)
        for made, metric in ((one.gain, one.metric), *others):
            if made is not None:
                name = "plain" if made.baseline.is_plain else made.baseline.projection_label
                found.append(Difference(group, f"{MINUS}\u00a0{name}", made, made is one.gain, metric))
    return forest(found)


def signed(value: float | None, decimals: int = 1) -> str:
    """Return a difference with its sign, as it is printed: "+0.2", "−1.0", "0.0"."""
    text = f"{abs(value or 0):.{decimals}f}"
    return text if float(text) == 0 else f"{'+' if value and value > 0 else MINUS}{text}"


def _scale(reach: float) -> tuple[float, float]:
    """Return the end of the scale and the step of its ticks, in points."""
    for step in (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0):
        if 1.02 * reach <= 3 * step:
            return max(2, math.ceil(1.02 * reach / step)) * step, step
    return 100.0, 50.0


def _place(value: float, reach: float) -> float:
    return round(50 + 47 * max(-1.0, min(1.0, value / reach)), 2)
