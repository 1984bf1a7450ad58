"""Whether intervals keep what they promise, in simulated worlds: a gate of statistics, not of speed.

    python -m tests.performance.bench_inference [--worlds 2000] [--environments 2 3 4 5 6] [--seeds 1 3 5]

In each world the images of some environments are drawn anew from an endless population of such images; the truth is the
population's difference, averaged over environments. Two methods differ on 10 % of the images. Under each seed either every
image is tested once (`full`, `folds`: there the fit, and with it the answer, varies more), or 20 % of them (`out_20`, splits
that overlap). `groups`: images of one object stand in every environment, half of their answers are the object's. Environments
have unequal numbers of images and unequal differences. Seeds that disagree differ by as much as their images explain.
Classes are unequal, from 3 to 40 % of an environment, and what a method gains differs between them. A line is ok where its figure is within its bound; coverage of the image interval up to the simulation's own error (binomial,
99.9 %). Ends with an error where one is not.
"""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain

import numpy as np
from scipy import stats

from benchmark.method.evaluation.inference import (
    Scores,
    balanced_contributions,
    difference_interval,
    equivalence,
    harmonic_contributions,
    image_intervals,
    jackknife_interval,
)
from benchmark.method.evaluation.metrics import Array, harmonic_mean
from benchmark.method.evaluation.multiple_testing import rank_intervals
from benchmark.method.evaluation.other_environments import environment_interval, random_effects_interval
from tests.performance.figures import arguments, keep

SIZES = (300, 500, 250, 600, 350, 400)  # images of an environment
GROUPS, FOLDS, STORES, BLOCK = 200, 5, 1000, 200  # worlds of a block share their splits
DIFFER = 0.1  # share of images on which two methods differ
# How often an image's answer under a seed is its own one, and not drawn anew by that seed's fit.
SHARES = np.array([0.4, 0.25, 0.15, 0.1, 0.07, 0.03])  # of the classes
SHIFTS = np.array([-0.03, 0.03, 0.0, 0.03, -0.04, 0.05])  # by which the difference is higher in a class
BALANCED = (
    ("full", SIZES[:3], 1),
    ("folds", SIZES[:3], 3),
    ("folds", SIZES, 1),
    ("out_20", (1200, 900, 1500), 3),
    ("groups, folds", SIZES[:3], 1),
    ("groups, folds", SIZES, 3),
)
SAME = {"full": 0.9, "folds": 0.6, "out_20": 0.6, "groups, folds": 0.6, "groups, out_20": 0.6}


@dataclass(frozen=True)
class Check:
    """One line of the table.

    Attributes:
        design: what was simulated.
        measured: share of the worlds.
        low: lowest share allowed.
        high: highest share allowed.
        worlds: number of worlds by whose binomial error the bounds are widened; 0 for bounds as they are.
        claimed: whether anything is claimed.
    """

    design: str
    measured: float
    low: float = 0.0
    high: float = 1.0
    worlds: int = 0
    claimed: bool = True

    @property
    def kept(self) -> bool:
        low, high = self.low, self.high
        if self.worlds:
            low = stats.binom.ppf(0.0005, self.worlds, low) / self.worlds
            high = stats.binom.ppf(0.9995, self.worlds, high) / self.worlds
        return not self.claimed or low <= self.measured <= high

    def __str__(self) -> str:
        bound = f"{100 * self.low:5.1f} to {100 * self.high:5.1f}" if self.claimed else "no claim"
        verdict = ("ok" if self.kept else "MISSED") if self.claimed else ""
        return f"{self.design:<76} {100 * self.measured:6.2f} %   {bound:<16} {verdict}"


@dataclass(frozen=True)
class Tested:
    """Which images of a data set are tested under which seed: arrays of shape (n,), one entry for each answer."""

    image: np.ndarray
    environment: np.ndarray
    seed: np.ndarray
    cluster: np.ndarray
    fit: np.ndarray  # images of one fit share what is special in it

    def scores(self, values: Array) -> Scores:
        return Scores(values, self.environment, self.seed, self.cluster)


def tested(design: str, sizes: tuple[int, ...], seeds: int, rng: np.random.Generator) -> Tested:
    """Split a data set anew for each seed, as a design says."""
    environment = np.repeat(np.arange(len(sizes)), sizes)
    grouped = design.startswith("groups")
    cluster = np.concatenate([np.arange(n) % GROUPS for n in sizes]) if grouped else np.arange(len(environment))
    images, fits = [], []
    for seed in range(seeds):
        place = rng.permutation(cluster.max() + 1)[cluster]  # of each unit, in a random order; then in its environment
        if not grouped:
            place = np.concatenate([place[environment == e].argsort().argsort() for e in range(len(sizes))])
        units = np.full(len(sizes), GROUPS) if grouped else np.array(sizes)
        inside = place < (0.2 * units).astype(int)[environment] if design.endswith("out_20") else place >= 0
        images.append(np.flatnonzero(inside))
        fits.append(seed * FOLDS + place[inside] % (FOLDS if design.endswith("folds") else 1))
    image = np.concatenate(images)
    seed_of = np.repeat(np.arange(seeds), [len(some) for some in images])
    return Tested(image, environment[image], seed_of, cluster[image], np.concatenate(fits))


def answers(
    of: Tested,
    gains: Array,
    same: float,
    disagreement: float,
    worlds: int,
    rng: np.random.Generator,
    shifts: Array | float = 0.0,
) -> Scores:
    """Draw differences of correctness, shape (worlds, n), whose expectation is the gain of their environment.

    Args:
        of: which images are tested.
        gains: true difference in each environment.
        same: how often an answer is the image's own, and not the fit's.
        disagreement: variance between the means of seeds, in units of that which their images explain.
        worlds: number of worlds.
        rng: draws.
        shifts: by which the expectation of each answer is higher, shape (n,).
    """
    own = rng.random((worlds, of.image.max() + 1), dtype=np.float32)
    first = np.unique(of.image, return_index=True)[1]
    if of.cluster.max() < of.image.max():  # groups: half of the answers are the group's
        group = np.zeros(own.shape[1], dtype=np.int64)
        group[of.image[first]] = of.cluster[first]
        of_group = rng.random((worlds, of.cluster.max() + 1), dtype=np.float32)[:, group]
        own = np.where(rng.random(own.shape, dtype=np.float32) < 0.5, of_group, own)
    place = own[:, of.image]
    anew = rng.random(place.shape, dtype=np.float32) >= same
    place[anew] = rng.random(int(anew.sum()), dtype=np.float32)
    fits = len(np.unique(of.fit[of.seed == 0]))
    images = np.bincount(of.environment[of.seed == 0])
    explained = ((DIFFER - gains**2) / images).sum() / len(gains) ** 2
    special = rng.normal(0, np.sqrt(disagreement * explained * fits), (worlds, of.fit.max() + 1))
    centre = np.clip(gains[of.environment] + shifts + special[:, of.fit], -DIFFER, DIFFER)
    return of.scores((place < (DIFFER + centre) / 2).astype(float) - (place > 1 - (DIFFER - centre) / 2))


def blocks(worlds: int) -> Iterator[int]:
    """Yield numbers of worlds that add up to all."""
    yield from [BLOCK] * (worlds // BLOCK) + [worlds % BLOCK] * bool(worlds % BLOCK)


def covers(design: str, environments: int, seeds: int, disagreement: float, worlds: int) -> float:
    """Return how often the image interval has the truth in it."""
    rng = np.random.default_rng([environments, seeds, len(design), int(10 * disagreement)])
    gains = np.linspace(-0.01, 0.05, environments)
    hits = 0
    for size in blocks(worlds):
        of = tested(design, SIZES[:environments], seeds, rng)
        intervals = image_intervals(answers(of, gains, SAME[design], disagreement, size, rng))
        hits += sum(one.low <= gains.mean() <= one.high for one in intervals)
    return hits / worlds


def image_coverage(worlds: int, environments: list[int], seeds: list[int]) -> Iterator[Check]:
    """Yield the coverage of every design, with seeds that agree and with seeds that do not."""
    for design in SAME:
        for e in environments:
            for s in seeds:
                name = f"image interval: {design}, {e} environments, {_seeds(s)}"
                yield Check(name, covers(design, e, s, 0, worlds), 0.93, 0.98, worlds)
    for design in ("full", "folds", "out_20"):
        for e in environments:
            for s in seeds:
                name = f"image interval, seeds disagree: {design}, {e} environments, {_seeds(s)}"
                yield Check(name, covers(design, e, s, 1, worlds), 0.91, 0.98, worlds, claimed=s >= 3)


def few_units(worlds: int) -> Iterator[Check]:
    """Yield what is claimed of 40 images, on 2 % of which one method is ahead and no other answer differs.

    In 45 % of these worlds all answers are the same: a fact about the 40, from which no interval is claimed and which
    shows nothing to be level.
    """
    rng, n = np.random.default_rng(40), 40
    where = np.zeros(n, dtype=np.int64)
    missed = level = 0
    for size in blocks(worlds):
        intervals = image_intervals(Scores((rng.random((size, n)) < 0.02).astype(float), where, where, np.arange(n)))
        missed += sum(not one.same and not one.low <= 0.02 <= one.high for one in intervals)
        level += sum(equivalence(one) <= 0.05 for one in intervals)
    yield Check("40 units, 2 points ahead: the image interval misses", missed / worlds, high=0.07)
    yield Check("40 units, 2 points ahead: level within 1 point", level / worlds, high=0.05)


def power(worlds: int) -> Iterator[Check]:
    """Yield how often a gain of 2 points of 4 x 2,000 images is found, under 1, 3 and 5 seeds of out_20."""
    for same in (1.0, SAME["out_20"]):
        name, found = f"power at +2 points: out_20, {100 * same:.0f} % of an image's answers its own", []
        for seeds in (1, 3, 5):
            rng, hits = np.random.default_rng([seeds, int(10 * same)]), 0
            for size in blocks(worlds):
                of = tested("out_20", (2000,) * 4, seeds, rng)
                intervals = image_intervals(answers(of, np.full(4, 0.02), same, 0, size, rng))
                hits += sum(one.low > 0 for one in intervals)
            found.append(hits / worlds)
            yield Check(f"{name}, {_seeds(seeds)}", found[-1], 0.95, claimed=seeds >= 3)
        yield Check(f"{name}, rises with seeds, smallest step", min(np.diff(found)), 1 / worlds)


def other_environments(worlds: int) -> Iterator[Check]:
    """Yield the coverage of intervals for new environments, which differ by 2 points (standard deviation)."""
    for e in (4, 5, 6):
        rng, hits = np.random.default_rng(e), 0
        of = tested("out_20", SIZES[:e], 3, rng)
        for _ in range(worlds):
            gains = np.clip(rng.normal(0.02, 0.02, e), -DIFFER, DIFFER)
            interval = environment_interval(answers(of, gains, 0.6, 0, 1, rng).environment_means[0]).interval
            assert interval
            hits += interval.low <= 0.02 <= interval.high
        yield Check(f"environment interval: {e} environments that differ by 2 points", hits / worlds, 0.93, 0.97)
    for sets, apart in ((3, 0.0), (3, 0.02), (4, 0.02), (5, 0.02)):
        rng, hits = np.random.default_rng([sets, int(100 * apart)]), 0
        number = np.repeat(np.arange(sets), [4, 4, 5, 4, 6][:sets])
        for _ in range(worlds):
            variances = DIFFER / rng.integers(300, 4000, size=len(number))
            effects = 0.02 + apart * rng.standard_normal(sets)[number] + 0.02 * rng.standard_normal(len(number))
            effects = effects + np.sqrt(variances) * rng.standard_normal(len(number))
            interval = random_effects_interval(effects, variances, number).interval
            assert interval
            hits += interval.low <= 0.02 <= interval.high
        name = f"random effects: {sets} data sets of 4 to 6 environments, {100 * apart:.0f} points apart"
        # Above 97 % for three sets: their error is never below that of the weighted mean, with two degrees of freedom.
        yield Check(name, hits / worlds, 0.93)


def harmonic_coverage(worlds: int) -> Iterator[Check]:
    """Yield the coverage of differences of harmonic means of base and new classes."""
    ours, theirs = np.array([[0.72, 0.8], [0.5, 0.4]]), np.array([[0.70, 0.8], [0.46, 0.42]])  # base, new; environments
    truth = (harmonic_mean(*ours) - harmonic_mean(*theirs)).mean()
    for design, seeds in (("full", 1), ("out_20", 3)):
        rng, hits = np.random.default_rng(seeds), 0
        for size in blocks(worlds):
            of = tested(design, (1200, 900), seeds, rng)  # 30 new images or more in a fifth: else no interval
            new = of.image % 3 == 0
            place = rng.random((size, of.image.max() + 1))[:, of.image]
            anew = rng.random(place.shape)
            drawn, half = np.where(anew < 0.2, anew / 0.2, place), new.astype(int)
            values = np.concatenate([drawn < chance[half, of.environment] for chance in (ours, theirs)])
            scores = harmonic_contributions(of.scores(values.astype(float)), new)
            intervals = [difference_interval(scores, i, size + i) for i in range(size)]
            hits += sum(one.low <= truth <= one.high for one in intervals)
        yield Check(f"harmonic means: {design}, 2 environments, {_seeds(seeds)}", hits / worlds, 0.93, 0.98, worlds)


def balanced_coverage(worlds: int) -> Iterator[Check]:
    """Yield the coverage of differences of class-balanced accuracies; an image's class is its group's, if it has one.

    Of `GROUPS` groups the smallest class then has 6, on which much of the result rests: nothing is claimed of these.
    """
    for design, sizes, seeds in BALANCED:
        rng, hits = np.random.default_rng([len(sizes), seeds, len(design)]), 0
        gains = np.linspace(-0.01, 0.05, len(sizes))
        for size in blocks(worlds):
            of = tested(design, sizes, seeds, rng)
            unit = of.cluster if design.startswith("groups") else of.image
            label = rng.choice(len(SHARES), unit.max() + 1, p=SHARES)[unit]
            expected = of.scores(gains[of.environment] + SHIFTS[label])
            truth = float(balanced_contributions(expected, label).means.mean())
            scores = answers(of, gains, SAME[design], 0, size, rng, SHIFTS[label])
            intervals = image_intervals(balanced_contributions(scores, label))
            hits += sum(one.low <= truth <= one.high for one in intervals)
        name = f"class-balanced: {design}, {len(sizes)} environments, {_seeds(seeds)}"
        yield Check(name, hits / worlds, 0.93, 0.98, worlds, claimed=not design.startswith("groups"))


def jackknife_coverage(worlds: int) -> Iterator[Check]:
    """Yield the coverage of differences of macro-F1, over images and over groups whose answers are alike."""
    classes, worlds = len(SHARES), max(1, worlds // 4)
    right = np.array([0.65 + SHIFTS, np.full(classes, 0.6)])  # accuracy of both methods in each class
    confusion = (1 - right[..., None]) / (classes - 1) * np.ones(classes)
    confusion[:, range(classes), range(classes)] = right
    truth = -np.diff(_macro_f1(SHARES[:, None] * confusion)).item()
    for name, units in (("images", 1), ("groups of 3", 3)):
        rng, hits = np.random.default_rng(units), 0
        n = 600 * units
        environment, cluster = np.repeat([0, 1], n // 2), np.arange(n) // units
        scores = Scores(np.zeros(n), environment, np.zeros(n, dtype=np.int64), cluster)
        for _ in range(worlds):
            label = rng.choice(classes, n // units, p=SHARES)[cluster]
            of_group, own = rng.random((2, n // units))[:, cluster], rng.random((2, n))
            drawn = np.where(rng.random((2, n)) < 0.5, of_group, own)
            predicted = (drawn[..., None] > confusion.cumsum(axis=-1)[:, label]).sum(axis=-1)
            place = (environment * classes + label) * classes + predicted

            def difference(kept: np.ndarray, place: Array = place) -> float:
                counts = np.stack(
                    [np.bincount(of_method[kept], minlength=2 * classes**2) for of_method in place], dtype=np.float64
                )
                return -np.diff(_macro_f1(counts.reshape(2, 2, classes, classes)).mean(axis=-1)).item()

            interval = jackknife_interval(difference, scores)
            hits += interval.low <= truth <= interval.high
        name = f"jackknife, macro-F1: 2 environments of 300 {name}"
        yield Check(name, hits / worlds, 0.93, 0.98, worlds)


def _macro_f1(counts: Array) -> Array:
    """Return macro-F1 from counts of class and predicted class, shape (..., classes, classes)."""
    images, predicted, hits = counts.sum(axis=-1), counts.sum(axis=-2), np.diagonal(counts, axis1=-2, axis2=-1)
    return np.asarray(2 * hits / np.maximum(images + predicted, 1e-12) * (images > 0)).sum(axis=-1) / (images > 0).sum(
        -1
    )


def correctness(of: Tested, accuracies: Array, rng: np.random.Generator) -> Scores:
    """Draw the answers of methods with these accuracies, of which two equal ones differ on some 10 % of the images."""
    shape = (len(accuracies), of.image.max() + 1)
    place = np.where(rng.random(shape) < 0.11, rng.random(shape), rng.random(shape[1]))
    return of.scores((place[:, of.image] < accuracies[:, None]).astype(float))


def winners(worlds: int) -> Iterator[Check]:
    """Yield how often a winner is named among equal methods, and one of two equal ones is bold alone."""
    for design, seeds in (("folds", 1), ("out_20", 3)):
        rng, false, alone = np.random.default_rng(seeds), 0, 0
        of = tested(design, SIZES[:4], seeds, rng)
        for _ in range(worlds):
            false += bool((rank_intervals(correctness(of, np.full(5, 0.6), rng)).highest > 1).any())
        yield Check(f"false winners after Holm: 5 equal methods, {design}, {_seeds(seeds)}", false / worlds, high=0.06)
        for _ in range(STORES):
            bold = rank_intervals(correctness(of, np.array([0.6, 0.6, 0.3]), rng)).tied_with_best
            alone += int(bold[:2].sum() == 1)
        name = f"bold alone: one of two equal methods beside a worse one, {design}, {_seeds(seeds)}"
        yield Check(name, alone / STORES, high=0.07)


def _seeds(n: int) -> str:
    return f"{n} seed{'s' * (n > 1)}"


def main() -> None:
    """Print the table; end with an error where a bound is missed."""
    parser = arguments(__doc__)
    parser.add_argument("--worlds", type=int, default=2000, help="of each design; bounds are made for 2000")
    parser.add_argument("--environments", type=int, nargs="+", choices=range(2, 7), default=[2, 3, 4, 5, 6])
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 3, 5], help="of designs of the image interval")
    args = parser.parse_args()
    checks = []
    gates = [image_coverage(args.worlds, args.environments, args.seeds)]
    gates += [gate(args.worlds) for gate in (few_units, power, other_environments, harmonic_coverage)]
    gates += [gate(args.worlds) for gate in (balanced_coverage, jackknife_coverage, winners)]
    for check in chain.from_iterable(gates):
        print(check, flush=True)
        checks.append(check)
    missed = [check for check in checks if not check.kept]

    def measured(start: str) -> list[float]:
        return [check.measured for check in checks if check.design.startswith(start) and check.claimed]

    coverages = measured("image interval:")
    figures = {"lowest_image_coverage": min(coverages), "highest_image_coverage": max(coverages)}
    powers = [c.measured for c in checks if c.design.startswith("power") and c.low == 0.95 and c.claimed]
    figures |= {"power_at_two_points": min(powers), "false_winners": max(measured("false winners"))}
    keep(args.json, {"missed": len(missed), **figures})
    if missed:
        sys.exit(f"{len(missed)} of {len(checks)} bounds missed: {'; '.join(check.design for check in missed)}")
    print(f"All {sum(check.claimed for check in checks)} bounds are kept.")


if __name__ == "__main__":
    main()
