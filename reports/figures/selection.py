"""Selection figure: source score against held-out accuracy of every setting of a method."""
# `_KINDS` of every.py lists this module. The figure's name is also in docs/report.md.

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from benchmark.method.evaluation.metrics import ACCURACY, Array
from benchmark.method.evaluation.selection import KEY, SETTING
from reports.analysis import spans
from reports.analysis.methods import Method
from reports.analysis.selections import Selections, mean_over_tests
from reports.analysis.settings import Setting
from reports.figures import style
from reports.figures.style import of_predictors, shown_methods

MAX_POINTS = 400  # points per method; larger numbers are subsampled evenly
_RING = style.Look(style.INK, "o", "-")


@dataclass(frozen=True)
class Cloud:
    """All settings of one method that have results for every test.

    Attributes:
        method: the method.
        source: score of the rule on the sources, in percent, shape (n,).
        held_out: held-out accuracy in percent, shape (n,).
        picked: (source score, held-out accuracy) at the rule's picks, which may differ between tests.
    """

    method: Method
    source: Array
    held_out: Array
    picked: tuple[float, float]


def panels(selections: Selections, rule: str) -> dict[str, list[Cloud]]:
    """Return a list of clouds (plain prediction first) for the label of each predictor with more than two settings.

    Scores and accuracies are means over folds (weighted by images), then seeds, then held-out environments.
    """
    return dict(of_predictors(selections, lambda plain: _clouds(selections, plain, rule)))


def _clouds(selections: Selections, plain: Method, rule: str) -> list[Cloud] | None:
    found = []
    for method in (plain, *shown_methods(selections, plain.predictor)):
        rows, picks = selections.parts[method], selections.picks(method, rule)
        settings = np.asarray(rows.groupby(list(SETTING), dropna=False, sort=False).ngroup(), dtype=np.int64)
        means = spans.spread_of(selections, method).chosen(rule, settings, int(settings.max()) + 1)
        source, held_out = (100 * of_each.mean(axis=0).ravel() for of_each in means)
        known = ~np.isnan(source + held_out)
        if known.any() and len(picks) == len(rows[list(KEY)].drop_duplicates()):
            x, y = (100 * mean_over_tests(picks, name, "n_test") for name in ("score", ACCURACY.key))
            found.append(Cloud(method, source[known], held_out[known], (x, y)))
    return found if sum(len(cloud.source) for cloud in found) > 2 else None


def correlation(clouds: Sequence[Cloud]) -> float:
    """Return the rank correlation of source score and held-out accuracy over all settings.

    NaN with fewer than `MIN_SETTINGS` settings, or if one of the two is constant.
    """
    x = np.round(np.concatenate([cloud.source for cloud in clouds]), 9)
    y = np.round(np.concatenate([cloud.held_out for cloud in clouds]), 9)
    return spans.rank_correlation(x, y) if len(x) >= spans.MIN_SETTINGS else np.nan


def draw(panels: style.Panels[Sequence[Cloud]]) -> style.Sheet:
    """Draw panels (title, settings)."""
    looks = style.looks_of(cloud.method for _, clouds in panels for cloud in clouds)
    looks |= {method: style.Look(style.BLACK, "X", "-") for method in looks if method.is_plain}
    sheet = style.sheet_for(panels, 2.6 * len(style.rows_of(panels)) + 0.3)
    for [axes], clouds in style.on_grid(sheet, panels, ("Source score (%)", "Accuracy, held out (%)", "")):
        for cloud in clouds:
            look, every = looks[cloud.method], -(-len(cloud.source) // MAX_POINTS)
            marks = look.marks(alpha=0.6, markersize=3, markeredgewidth=0.4)
            axes.plot(cloud.source[::every], cloud.held_out[::every], **marks)
        for cloud in clouds:
            x, y = cloud.picked
            axes.plot([x], [y], **looks[cloud.method].marks(zorder=4, markersize=4.2))
            axes.plot([x], [y], **_RING.marks(zorder=5, markersize=8, markeredgewidth=0.8, markerfacecolor="none"))
        low = max(axes.get_xlim()[0], axes.get_ylim()[0])
        high = min(axes.get_xlim()[1], axes.get_ylim()[1])
        if low < high:
            axes.plot([low, high], [low, high], color=style.GREY, linewidth=0.6, linestyle=(0, (2, 2)), zorder=0)
        style.round_ticks(axes.xaxis, 6)
        style.round_ticks(axes.yaxis, 6)
        if not np.isnan(rho := correlation(clouds)):
            place = {"ha": "right", "va": "baseline"}
            style.note(axes, f"rank correlation {rho:.2f}", (1, 0), (-3, 4), "axes fraction", **place)
    legend = {method.name: look.handle() for method, look in looks.items()}
    legend["picks of the rule"] = _RING.handle(markersize=7.5, markerfacecolor="none")
    return style.arrange(sheet, legend, gap=0.16)


def caption(panels: Sequence[Sequence[Cloud]], setting: Setting) -> str:
    """Return the caption of the figure."""
    thinned = any(len(cloud.source) > MAX_POINTS for clouds in panels for cloud in clouds)
    return (
        "Source score of the rule against accuracy on the "
        f"{setting.protocol_class.tested}: every setting (λ, rank, intervention set, nuisance) that was tested "
        "everywhere, means over all tests. Rings: the rule's picks, test by test. Dashes: equal accuracy."
        f"{' Not every setting is drawn.' if thinned else ''} "
        "Settings share images, so the rank correlation has no p-value."
    )
