"""Sentences computed from result rows, whatever they turn out to say.

The interval of a difference is a paired bootstrap (Efron & Tibshirani 1993) in two levels. Each replicate
takes one seed at random and, within each held-out environment, resamples that seed's test images; the two
methods keep their answers on the same image together, and an image that is tested with several pairs of
environments keeps all its answers. Test splits of different seeds overlap (on `full`
they are the same images), so several seeds count as one test set: the interval shrinks with images, not
with seeds, and widens where seeds disagree. With splits that overlap little it is wider than it need be.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from reports.captions import environment_words, number
from reports.chosen import Selections, rule_for
from reports.methods import ICM, PLAIN, Method
from reports.settings import Setting
from reports.tables import Cell, held_out_names, line_cells

REPLICATES = 10_000
Answers = dict[str, npt.NDArray[np.float64]]  # environment -> a value for each tested image
_BASELINES = (PLAIN, "pca", "random")
_CONTROLS = (
    "pca",
    "random",
)  # baselines that use no intervention: if they do as well, interventions add nothing


@dataclass(frozen=True)
class Difference:
    """Accuracy of `method` minus that of `baseline`, averaged over held-out environments and then seeds.

    Attributes:
        points: the difference in percentage points.
        low, high: its 95 % bootstrap interval, in percentage points.
        n_images: different test images per seed over all held-out environments, averaged over seeds.
    """

    method: Method
    baseline: Method
    points: float
    low: float
    high: float
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
    pairs = {k: _minus(ours[k], theirs[k]) for k in ours if k in theirs and _sizes(ours[k]) == _sizes(theirs[k])}
    held_outs = sorted({held_out for held_out, _ in pairs})
    seeds = sorted(s for s in {s for _, s in pairs} if all((h, s) in pairs for h in held_outs))
    if not seeds:
        return None
    by_seed = [_shares([pairs[h, s] for h in held_outs]) for s in seeds]
    points = float(np.mean([sum(d.sum() for d in shares.values()) for shares in by_seed]))
    low, high = np.quantile(_bootstrap(by_seed), [0.025, 0.975])
    n_images = float(np.mean([sum(map(len, shares.values())) for shares in by_seed]))
    return Difference(
        method,
        baseline,
        100 * points,
        100 * float(low),
        100 * float(high),
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


def _correct(picks: pd.DataFrame) -> dict[tuple[str, int], Answers]:
    found = {}
    for row in picks.to_dict("records"):
        if row["correct"] is not None and row["n_test"]:
            names = [part["environment"] for part in row["tested"]]
            ends = np.cumsum([part["images"] for part in row["tested"]])
            answers = np.split(np.asarray(row["correct"], dtype=float), ends[:-1])
            found[str(row["held_out"]), int(row["seed"])] = dict(zip(names, answers, strict=True))
    return found


def _sizes(answers: Answers) -> dict[str, int]:
    return {environment: len(own) for environment, own in answers.items()}


def _minus(ours: Answers, theirs: Answers) -> Answers:
    return {environment: own - theirs[environment] for environment, own in ours.items()}


def _shares(differences: list[Answers]) -> Answers:
    """Return what each image adds to the mean over all that is held out in turn, environment by environment."""
    found: dict[str, npt.NDArray[np.float64]] = {}
    for held_out in differences:
        n = sum(map(len, held_out.values()))
        for environment, d in held_out.items():
            found[environment] = found.get(environment, 0.0) + d / n / len(differences)
    return found


def _bootstrap(by_seed: list[Answers]) -> npt.NDArray[np.float64]:
    """Return `REPLICATES` resampled differences (fractions) from the seeds' `_shares`; the draws are fixed."""
    rng = np.random.default_rng(0)
    means = np.zeros((len(by_seed), REPLICATES))
    for own, shares in zip(means, by_seed, strict=True):
        for share in shares.values():
            # An image adds one of few values: resampling the images is a multinomial draw of the counts of these.
            values, counts = np.unique(share, return_counts=True)
            own += rng.multinomial(len(share), counts / len(share), size=REPLICATES) @ values
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
    return (
        f"{icm.label} minus {baseline.label}: {found.points:+.1f} points, "
        f"95 % interval {found.low:+.1f} to {found.high:+.1f} ({context}). {verdict(found)}{partial}"
    )


def verdict(found: Difference) -> str:
    """Return in words whether the two methods are separated, and by which of them."""
    ours, theirs = found.method.label, found.baseline.label
    control = found.baseline.projection in _CONTROLS
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
    words = (
        f"Each interval is a paired bootstrap of {REPLICATES:,} replicates over test images: a replicate "
        "takes one seed at random and resamples its images within each held-out environment. Seeds, whose "
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
        words += " Images of one group are treated as independent, which makes the intervals too narrow."
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
