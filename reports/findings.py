"""Sentences computed from result rows, whatever they turn out to say.

The interval of a difference is a paired bootstrap (Efron & Tibshirani 1993) in two levels. Each replicate
takes one seed at random and resamples that seed's test images, or whole groups of them where images come in
groups; the two methods keep their answers on the same image together, and so do all that is held out in turn:
an image of several pairs of environments, a group with images in several environments. Test splits of
different seeds overlap (on `full` they are the same images), so several seeds count as one test set: the
interval shrinks with images, not with seeds, and widens where seeds disagree. With splits that overlap little
it is wider than it need be.
"""

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pandas as pd

from reports.captions import environment_words, number
from reports.chosen import Selections, rule_for
from reports.methods import ICM, PLAIN, Method
from reports.settings import Setting
from reports.tables import Cell, held_out_names, line_cells

REPLICATES = 10_000
FEWEST_UNITS = 10  # below so many images or groups of an environment, resampling them tells too little
MOST_DRAWS = 5_000_000  # numbers that are held at once
Array = npt.NDArray[np.float64]
_BASELINES = (PLAIN, "pca", "random")
_CONTROLS = (
    "pca",
    "random",
)  # baselines that use no intervention: if they do as well, interventions add nothing


@dataclass(frozen=True)
class _Answers:
    """A value for each tested image, environment by environment, and the groups of the images, if any."""

    values: Array
    tested: tuple[tuple[str, int], ...]
    groups: npt.NDArray[np.int64] | None


@dataclass(frozen=True)
class Difference:
    """Accuracy of `method` minus that of `baseline`, averaged over held-out environments and then seeds.

    Attributes:
        points: the difference in percentage points.
        low, high: its 95 % bootstrap interval, in percentage points; NaN where a held-out environment has fewer than
            `FEWEST_UNITS` images, or groups of images.
        fewest: images, or groups of them, of the environment with the fewest.
        n_images: different test images per seed over all held-out environments, averaged over seeds.
    """

    method: Method
    baseline: Method
    points: float
    low: float
    high: float
    fewest: int
    n_images: float
    held_outs: tuple[str, ...]
    seeds: tuple[int, ...]


def difference(selections: Selections, method: Method, baseline: Method, rule: str) -> Difference | None:
    """Compare two methods on the same test images, each with the hyper-parameters that `rule` picks for it.

    Args:
        selections: the rows of one setting.
        method, baseline: two of its methods.
        rule: one of `selection.RULES`.

    Returns:
        The difference over the seeds for which both methods have per-image correctness on every held-out
        environment that both were tested on, or None if there is no such seed.
    """
    ours, theirs = (_correct(selections.picks(m, rule)) for m in (method, baseline))
    both = [k for k in ours if k in theirs and ours[k].tested == theirs[k].tested]
    pairs = {k: replace(ours[k], values=ours[k].values - theirs[k].values) for k in both}
    held_outs = sorted({held_out for held_out, _ in pairs})
    seeds = sorted(s for s in {s for _, s in pairs} if all((h, s) in pairs for h in held_outs))
    if not seeds:
        return None
    points = float(np.mean([pairs[h, s].values.mean() for s in seeds for h in held_outs]))
    fewest = min(_fewest_units(answers) for answers in pairs.values())
    low = high = np.nan
    if fewest >= FEWEST_UNITS:
        low, high = np.quantile(_bootstrap([[pairs[h, s] for h in held_outs] for s in seeds]), [0.025, 0.975])
    tested = [dict(part for h in held_outs for part in pairs[h, s].tested) for s in seeds]
    n_images = float(np.mean([sum(sizes.values()) for sizes in tested]))
    return Difference(
        method,
        baseline,
        100 * points,
        100 * float(low),
        100 * float(high),
        fewest,
        n_images,
        tuple(held_outs),
        tuple(seeds),
    )


def comparisons(setting: Setting, selections: Selections) -> list[str]:
    """Compare CLIP-ICM with what could explain its gain away; each sentence has n, seeds, split and rule.

    Args:
        setting: what the rows share.
        selections: the rows of that setting.
    """
    rule = rule_for(selections.rows)
    icms = _largest(selections)
    sentences = [f"{setting.banner}what follows describes noise, not a model."] if setting.random_weights else []
    if setting.class_group == "harmonic":
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


def _correct(picks: pd.DataFrame) -> dict[tuple[str, int], _Answers]:
    found = {}
    for row in picks.to_dict("records"):
        if row["correct"] is not None and row["n_test"]:
            tested = tuple((part["environment"], part["images"]) for part in row["tested"])
            groups = None if row["tested_groups"] is None else np.asarray(row["tested_groups"], dtype=np.int64)
            answers = _Answers(np.asarray(row["correct"], dtype=float), tested, groups)
            found[str(row["held_out"]), int(row["seed"])] = answers
    return found


def _fewest_units(answers: _Answers) -> int:
    """Return the images, or groups of them, of the environment that has the fewest."""
    sizes = [n for _, n in answers.tested]
    if answers.groups is None:
        return min(sizes)
    return min(len(np.unique(own)) for own in np.split(answers.groups, np.cumsum(sizes)[:-1]))


def _deviations(held_outs: list[_Answers]) -> Array:
    """Return what each image, or each group of images, adds to the mean over all that is held out, shape (units,).

    Centred within each environment, whose number of images is no part of the chance.
    """
    starts: dict[str, int] = {}
    added, units, free = [], [], 0
    for answers in held_outs:
        scale = len(answers.values) * len(held_outs)
        parts = np.split(answers.values, np.cumsum([n for _, n in answers.tested])[:-1])
        added += [(part - part.mean()) / scale for part in parts if len(part)]
        for name, n in answers.tested:
            free = max(free, starts.setdefault(name, free) + n)
        images = [starts[name] + np.arange(n) for name, n in answers.tested]
        units.append(np.concatenate(images) if answers.groups is None else answers.groups)
    _, unit = np.unique(np.concatenate(units), return_inverse=True)
    return np.asarray(np.bincount(unit, weights=np.concatenate(added)), dtype=np.float64)


def _bootstrap(by_seed: list[list[_Answers]]) -> Array:
    """Return `REPLICATES` resampled means (fractions) of what is held out with each seed; the draws are fixed."""
    rng = np.random.default_rng(0)
    means = np.zeros((len(by_seed), REPLICATES))
    for own, held_outs in zip(means, by_seed, strict=True):
        # Units add one of few values: resampling the units is a multinomial draw of the counts of these.
        values, counts = np.unique(_deviations(held_outs), return_counts=True)
        block = max(1, MOST_DRAWS // len(values))
        for first in range(0, REPLICATES, block):
            size = min(block, REPLICATES - first)
            own[first : first + size] = rng.multinomial(counts.sum(), counts / counts.sum(), size=size) @ values
        own += np.mean([answers.values.mean() for answers in held_outs])
    return means[rng.integers(len(by_seed), size=REPLICATES), np.arange(REPLICATES)]


def _comparison(setting: Setting, selections: Selections, icm: Method, projection: str, rule: str) -> str:
    same = [m for m in selections.parts if (m.projection, m.predictor) == (projection, icm.predictor)]
    baseline = next((m for m in same if m.order != "released"), None)
    if baseline is None:
        missing = Method(projection, None, icm.predictor).label
        return f"{icm.label} was not compared with {missing}: there are no such rows."
    found = difference(selections, icm, baseline, rule)
    if found is None:
        return f"{icm.label} was not compared with {baseline.label}: no seed has both on the same test images."
    untested = sorted(set(held_out_names(selections.rows)) - set(found.held_outs))
    partial = f" Without {', '.join(untested)}: not both were tested." if untested else ""
    context = _context(setting, rule, found.n_images, len(found.held_outs), found.seeds)
    units = "groups of test images" if setting.grouped else "test images"
    interval = (
        f"no interval, since an environment has {found.fewest} {units} where {FEWEST_UNITS} are needed"
        if np.isnan(found.low)
        else f"95 % interval {found.low:+.1f} to {found.high:+.1f}"
    )
    return (
        f"{icm.label} minus {baseline.label}: {found.points:+.1f} points, {interval} ({context}). "
        f"{verdict(found)}{partial}"
    )


def verdict(found: Difference) -> str:
    """Return in words whether the two methods are separated, and by which of them."""
    ours, theirs = found.method.label, found.baseline.label
    control = found.baseline.projection in _CONTROLS
    if np.isnan(found.low):
        return "Too few images to say which is ahead."
    if found.low > 0:
        return f"{ours} is ahead of {theirs}."
    if found.high < 0:
        end = ", which uses no intervention, beats" if control else " beats"
        return f"{theirs}{end} {ours}."
    words = "Not separated: the interval includes 0."
    if control and found.points <= 0:
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
    if setting.protocol == "held_out_pairs":
        words += (
            " An image is tested in the pairs of its environment with each other one: n counts it once, and a "
            "replicate takes or leaves it in all of them together."
        )
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
