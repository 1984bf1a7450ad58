"""Sentences computed from result rows, whatever they turn out to say.

The interval of a difference is a paired bootstrap (Efron & Tibshirani 1993) in two levels. Each replicate
takes one seed at random and resamples that seed's test images, or whole groups of them where images come in
groups; the two methods keep their answers on the same image together, and so do all that is held out in turn:
an image of several pairs of environments, a group with images in several environments. Test splits of
different seeds overlap (on `full` they are the same images), so several seeds count as one test set: the
interval shrinks with images, not with seeds, and widens where seeds disagree. With splits that overlap little
it is wider than it need be.
"""

import numpy as np

from reports.captions import environment_words, number
from reports.chosen import Selections, rule_for
from reports.differences import MIN_UNITS, REPLICATES, Difference, difference
from reports.methods import ICM, PLAIN, Method
from reports.settings import Setting
from reports.tables import Cell, held_out_names, line_cells

_BASELINES = (PLAIN, "pca", "random")
_CONTROLS = (
    "pca",
    "random",
)  # baselines that use no intervention: if they do as well, interventions add nothing


def comparisons(setting: Setting, selections: Selections) -> list[str]:
    """Compare CLIP-ICM with what could explain its gain away; each sentence has n, seeds, split and rule.

    Args:
        setting: what the rows share.
        selections: the rows of that setting.
    """
    rule = rule_for(selections.rows)
    icms = _largest(selections)
    sentences = [f"{setting.banner}what follows describes noise, not a model."] if setting.random_weights else []
    if setting.class_half == "harmonic":
        return [*sentences, "Harmonic means have no images of their own: intervals are with base and new classes."]
    if rule != "lodo":
        sentences.append("Not every row has a lodo accuracy: the findings use the training_domain rule.")
    if not icms:
        sentences.append("There are no rows of CLIP-ICM (largest): nothing is compared with it.")
    compared = [_comparison(setting, selections, m, name, rule) for m in icms for name in _BASELINES]
    sentences += compared
    if compared:
        sentences.append(_interval_words(setting, len(compared)))
    return sentences


def observations(setting: Setting, selections: Selections) -> list[str]:
    """Return what choosing on the target would add, and where each method is worst; arguments as above."""
    rule, icms = rule_for(selections.rows), _largest(selections)
    sentences = []
    for icm in icms:
        sentences += _oracle_gap(setting, selections, icm, rule)
    for method in selections.parts:
        if method in icms or method.projection == PLAIN:
            sentences += _worst(setting, selections, method, rule)
    return sentences


def _largest(selections: Selections) -> list[Method]:
    return [m for m in selections.parts if m.projection == ICM and m.order == "largest"]


def _comparison(setting: Setting, selections: Selections, icm: Method, projection: str, rule: str) -> str:
    same = [m for m in selections.parts if (m.projection, m.predictor) == (projection, icm.predictor)]
    baseline = next((m for m in same if m.order != "released"), None)
    if baseline is None:
        missing = Method(projection, None, icm.predictor).label
        return f"{icm.label} was not compared with {missing}: there are no such rows."
    gap = difference(selections, icm, baseline, rule)
    if gap is None:
        return f"{icm.label} was not compared with {baseline.label}: no seed has both on the same test images."
    untested = sorted(set(held_out_names(selections.rows)) - set(gap.held_outs))
    partial = f" Without {', '.join(untested)}: not both were tested." if untested else ""
    context = _context(setting, rule, gap.n_images, len(gap.held_outs), gap.seeds)
    units = "groups of test images" if setting.grouped else "test images"
    interval = (
        f"no interval, since an environment has {gap.fewest} {units} where {MIN_UNITS} are needed"
        if np.isnan(gap.low)
        else f"95 % interval {gap.low:+.1f} to {gap.high:+.1f}"
    )
    return (
        f"{icm.label} minus {baseline.label}: {gap.points:+.1f} points, {interval} ({context}). {verdict(gap)}{partial}"
    )


def verdict(gap: Difference) -> str:
    """Return in words whether the two methods are separated, and by which of them."""
    ours, theirs = gap.method.label, gap.baseline.label
    control = gap.baseline.projection in _CONTROLS
    if np.isnan(gap.low):
        return "Too few images to say which is ahead."
    if gap.low > 0:
        return f"{ours} is ahead of {theirs}."
    if gap.high < 0:
        end = ", which uses no intervention, beats" if control else " beats"
        return f"{theirs}{end} {ours}."
    words = "Not separated: the interval includes 0."
    if control and gap.points <= 0:
        return f"{words} {theirs}, which uses no intervention, equals or beats {ours} here."
    if control:
        return f"{words} That interventions help is not shown: {theirs} uses none."
    return words


def _interval_words(setting: Setting, comparisons: int) -> str:
    units = "whole groups of its images" if setting.grouped else "its images, centred within each held-out environment"
    words = (
        f"Each interval is a paired bootstrap of {REPLICATES:,} replicates over test images: a replicate "
        f"takes one seed at random and resamples {units}. Seeds, whose "
        "test splits overlap, do not make it narrower. The difference is averaged over held-out "
        "environments, each method with what the rule picks for it. "
        f"Intervals are not adjusted for making {comparisons} comparisons."
    )
    if note := setting.protocol_class.interval_note:
        words += f" {note}"
    if setting.grouped:
        words += " A replicate takes or leaves a group in all environments together."
    return words


def _oracle_gap(setting: Setting, selections: Selections, method: Method, rule: str) -> list[str]:
    fair, oracle = (line_cells(selections, method, r)[-1] for r in (rule, "oracle"))
    if fair.mean is None or oracle.mean is None or fair.n_test is None:
        return []
    context = _context(setting, f"{rule} against oracle", fair.n_test, len(held_out_names(selections.rows)), fair.seeds)
    return [
        f"Choosing on the target would add {oracle.mean - fair.mean:.1f} points to {method.label}: "
        f"{_number(fair)} by {rule}, {_number(oracle)}† by oracle ({context})."
    ]


def _worst(setting: Setting, selections: Selections, method: Method, rule: str) -> list[str]:
    names = held_out_names(selections.rows)
    cells = dict(zip(names, line_cells(selections, method, rule)[:-1], strict=True))
    known = [(cell.mean, name) for name, cell in cells.items() if cell.mean is not None]
    if not known:
        return []
    name = min(known)[1]
    picks = selections.picks(method, rule)
    worst_class = 100 * float(picks[picks["held_out"] == name]["worst_class"].mean())
    context = _context(setting, rule, cells[name].n_test or 0, 1, cells[name].seeds)
    return [
        f"{method.label} is worst on {name}: {_number(cells[name])} %, "
        f"its worst class there {worst_class:.1f} % ({context})."
    ]


def _number(cell: Cell) -> str:
    text = f"{cell.mean:.1f}"
    return text if cell.stderr is None else f"{text} ± {cell.stderr:.1f}"


def _context(setting: Setting, rule: str, n: float, environments: int, seeds: tuple[int, ...]) -> str:
    where = f" in {environment_words(setting, environments)}" if environments > 1 else ""
    return (
        f"n = {number(n)} test images per seed{where}, "
        f"seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}, "
        f"split {setting.test_split}, rule {rule}"
    )
