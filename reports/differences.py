"""The difference between two methods on the same test images, with its interval."""

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pandas as pd

from reports.chosen import Selections
from reports.methods import Method

REPLICATES = 10_000
MIN_UNITS = 10  # below so many images or groups of an environment, resampling them tells too little
MAX_DRAWS = 5_000_000  # numbers that are held at once
Array = npt.NDArray[np.float64]


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
        low: lower end of its 95 % bootstrap interval, in percentage points; NaN where a held-out environment has fewer
            than `MIN_UNITS` images, or groups of images.
        high: the upper end.
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
        method: the method whose accuracy counts.
        baseline: the method whose accuracy is subtracted.
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
    if fewest >= MIN_UNITS:
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


def _correct(picks: pd.DataFrame) -> dict[tuple[str, int], _Answers]:
    by_key = {}
    for row in picks.to_dict("records"):
        if row["correct"] is not None and row["n_test"]:
            tested = tuple((part["environment"], part["images"]) for part in row["tested"])
            groups = None if row["tested_groups"] is None else np.asarray(row["tested_groups"], dtype=np.int64)
            answers = _Answers(np.asarray(row["correct"], dtype=float), tested, groups)
            by_key[str(row["held_out"]), int(row["seed"])] = answers
    return by_key


def _fewest_units(answers: _Answers) -> int:
    """Return the images, or groups of them, of the environment that has the fewest."""
    sizes = [n for _, n in answers.tested]
    if answers.groups is None:
        return min(sizes)
    return min(len(np.unique(groups)) for groups in np.split(answers.groups, np.cumsum(sizes)[:-1]))


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
    for replicates, held_outs in zip(means, by_seed, strict=True):
        # Units add one of few values: resampling the units is a multinomial draw of the counts of these.
        values, counts = np.unique(_deviations(held_outs), return_counts=True)
        block = max(1, MAX_DRAWS // len(values))
        for first in range(0, REPLICATES, block):
            size = min(block, REPLICATES - first)
            replicates[first : first + size] = rng.multinomial(counts.sum(), counts / counts.sum(), size=size) @ values
        replicates += np.mean([answers.values.mean() for answers in held_outs])
    return means[rng.integers(len(by_seed), size=REPLICATES), np.arange(REPLICATES)]
