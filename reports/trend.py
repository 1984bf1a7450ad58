"""Does the gain survive a better encoder: a method's gain over plain prediction against plain accuracy, over backbones.

    gain_b = intercept + slope plain_b,   least squares over backbones b, each counting alike

with a t interval of n - 2 degrees of freedom for the slope. The gain has the plain accuracy in it, with the opposite
sign, so the noise of a finite test pulls that slope down; against the mean of both accuracies (Oldham, 1962) it does
not, where both have as much of it. Both slopes are said. Backbones of one family are not drawn at random.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from benchmark.method.evaluation.distributions import t_quantile
from benchmark.method.evaluation.inference import CONFIDENCE
from benchmark.method.evaluation.metrics import Array
from reports.captions import unit_words
from reports.chosen import Selections, held_out_names, rule_for
from reports.comparisons import Comparison, compare, points_with_ends
from reports.credit import EQUAL_N_TRUNCATION, OURS
from reports.methods import ICM, PLAIN
from reports.render import markdown_escape, markdown_grid
from reports.robustness import MIN_BACKBONES
from reports.settings import Setting

_SHOWN = ((ICM, ""), EQUAL_N_TRUNCATION, OURS, ("isotropic_environments", ""))


@dataclass(frozen=True)
class Slope:
    """A least-squares slope, points of gain for a point of accuracy, with its interval.

    Attributes:
        value: the slope.
        low: lower end of its interval.
        high: upper end.
        n: number of backbones.
    """

    value: float
    low: float
    high: float
    n: int


def slope_of(x: Array, y: Array) -> Slope | None:
    """Return the slope of y on x, both of shape (n,); None with fewer than three points, or where x does not vary."""
    away = x - x.mean()
    spread = float(away @ away)
    if len(x) < 3 or not spread > 0:
        return None
    value = float(away @ y) / spread
    rest = y - y.mean() - value * away
    half = t_quantile((1 + CONFIDENCE) / 2, len(x) - 2) * float(np.sqrt(rest @ rest / (len(x) - 2) / spread))
    return Slope(value, value - half, value + half, len(x))


def trends(parts: Sequence[tuple[Setting, Selections]]) -> list[str]:
    """Return a section for settings that differ in the backbone alone, from `MIN_BACKBONES` on; no random weights.

    Args:
        parts: settings and their rows, in the order of the report.
    """
    alike: dict[object, dict[str, tuple[Setting, Selections]]] = {}
    for setting, selections in parts:
        if not (setting.random_weights or setting.protocol_class.looks_at_target):
            key = (setting.without_backbone, tuple(held_out_names(selections.rows)))
            alike.setdefault(key, {}).setdefault(setting.backbone_fingerprint, (setting, selections))
    return [_section([*group.values()]) for group in alike.values() if len(group) >= MIN_BACKBONES]


def _section(group: Sequence[tuple[Setting, Selections]]) -> str:
    setting, selections = group[0]
    named = {m.predictor: None for m in selections.parts}
    blocks = [_block(group, projection, variant, p) for p in named for projection, variant in _SHOWN]
    title = setting.title.replace(f", {setting.backbone_label} ({setting.precision})", f", {len(group)} backbones")
    words = (
        f"Gain over plain prediction in points, with its 95 % interval for these environments (over "
        f"{unit_words(setting)}), against the plain accuracy of the same encoder; backbones by plain accuracy. Slope: "
        "least squares over backbones, each counting alike, 95 % interval by Student's t. A gain has the plain "
        "accuracy in it, with the opposite sign: noise pulls its slope on plain accuracy down, and not that on the "
        "mean of both."
    )
    head = f"## Does the gain survive a better encoder? {markdown_escape(title)}"
    return "\n\n".join([head, markdown_escape(words), *filter(None, blocks)])


def _block(group: Sequence[tuple[Setting, Selections]], projection: str, variant: str, predictor: str) -> str:
    """Return the table and the sentence of one method; nothing where fewer than `MIN_BACKBONES` have it."""
    found = []
    for setting, selections in group:
        methods = [m for m in selections.parts if m.predictor == predictor and m.order != "released"]
        ours = [m for m in methods if (m.projection, m.variant) == (projection, variant)]
        plain = [m for m in methods if m.projection == PLAIN]
        one = compare(selections, ours[0], rule_for(selections.rows), plain[0]) if ours and plain else None
        if one:
            found.append((setting, one))
    if len(found) < MIN_BACKBONES:
        return ""
    found.sort(key=lambda item: item[1].accuracies[1])
    body = []
    for setting, one in found:
        accuracy, of_plain = (f"{100 * share:.1f}" for share in one.accuracies)
        body.append([markdown_escape(setting.backbone), of_plain, accuracy, points_with_ends(one)])
    label = found[0][1].method.label
    grid = markdown_grid(["Backbone", "plain", markdown_escape(label), "gain"], body)
    return f"{grid}\n\n{markdown_escape(_sentence(label, [one for _, one in found]))}"


def _sentence(label: str, compared: Sequence[Comparison]) -> str:
    ours, plain = 100 * np.array([one.accuracies for one in compared]).T
    on_plain, on_mean = slope_of(plain, ours - plain), slope_of((ours + plain) / 2, ours - plain)
    ahead = sum(one.interval.low > 0 for one in compared)
    if on_plain is None or on_mean is None:
        return f"{label}: all backbones have the same plain accuracy, so there is no trend."
    return (
        f"{label}: mean gain {np.mean(ours - plain):+.1f} points over {on_plain.n} backbones with plain accuracies "
        f"from {plain.min():.1f} to {plain.max():.1f}, {ahead} of them with an interval above 0. For each point of "
        f"plain accuracy the gain changes by {_slope(on_plain)} points; on the mean of both accuracies by "
        f"{_slope(on_mean)}."
    )


def _slope(slope: Slope) -> str:
    return f"{slope.value:+.2f} [{slope.low:+.2f}, {slope.high:+.2f}]"
