"""Whether planted controls get the right verdict, over many deals: a gate of statistics.

    python -m tests.performance.controls [--deals 10] [--first 0] [--only NAME ...]

Each data set of jobs/recipes/controls.yaml of which it is known what must be found is dealt anew by each `seed`, and what
is found with its target held out is held against that. Of a part (interventions, environments' means) that must be found,
9 of 10 deals must find it; of one that must not, 1 of 20 may. The verdict is that of the recipe's folds, lambdas and
projections, by the report's own family of comparisons and credit.

Beside the counts stand what plain zero-shot is right in on the target, how much of the nuisance lies along the shift (C_d
and B: v'Nv / v'C_z v over tr N / tr C_z, 1 where a direction is like any other; v is the shift of the means from sources
to target), and the mean gain of shrinkage. Needs the demo's packages and encoder; drawings are embedded once, below the
cache folder. Ends with an error where a bound is missed.
"""

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from benchmark.method.arrays import Array, scaled
from benchmark.method.evaluation.splits import Split
from benchmark.method.subspace.nuisance import between_environments
from benchmark.recipe.loading import load_recipe
from benchmark.recipe.recipe import Recipe
from reports.analysis.findings import ENVIRONMENTS, INTERVENTIONS, ControlResult, Expected
from tests.conftest import REPOSITORY
from tests.performance.answers import FITS, PREDICTOR, Design, found
from tests.performance.deals import Drawings
from tests.performance.figures import arguments, keep
from tests.performance.in_process import Images, trials_on
from tests.performance.in_process import found as reported

RECIPE = REPOSITORY / "jobs" / "recipes" / "controls.yaml"
FOUND, WRONG = 0.9, 0.05  # of the deals: at least, where a part must be found; at most, where it must not
DEFAULT_TARGET = "d"  # where nothing tells the environments apart


@dataclass(frozen=True)
class Dealt:
    """What is measured of one deal.

    Attributes:
        verdict: what was found.
        plain: accuracy of plain zero-shot on the target.
        highest: name of an N -> accuracy on the target at the strength that is best there, which nobody can choose; of
            zero-shot alone.
        interventions, environments: how much C_d and B have along the shift, 1 for as much as along any direction.
    """

    verdict: ControlResult
    plain: float
    highest: dict[str, float]
    interventions: float
    environments: float


@dataclass(frozen=True)
class Cell:
    """All deals of a data set.

    Attributes:
        name: of the data set.
        parts: what must be found.
        deals: what was measured.
    """

    name: str
    parts: tuple[str, ...]
    deals: tuple[Dealt, ...]

    def share(self, part: str) -> float:
        """Return in which share of the deals a part was found."""
        return sum(part in one.verdict.found for one in self.deals) / len(self.deals)

    def missed(self) -> list[str]:
        """Return the parts whose bound is missed."""
        shares = {part: self.share(part) for part in (INTERVENTIONS, ENVIRONMENTS)}
        return [p for p, s in shares.items() if (s < FOUND if p in self.parts else s > WRONG)]

    def lines(self) -> Iterator[str]:
        """Yield what is printed of it."""
        right = sum(set(one.verdict.found) == set(self.parts) for one in self.deals)
        yield f"{self.name}: to be found {' and '.join(self.parts) or 'nothing'}; right in {right} of {len(self.deals)} deals"
        for part in (INTERVENTIONS, ENVIRONMENTS):
            bound = f"at least {100 * FOUND:.0f} %" if part in self.parts else f"at most {100 * WRONG:.0f} %"
            yield f"    {part:<14} found in {100 * self.share(part):5.1f} % (bound {bound}: {self._kept(part)})"
        plain, c_d, b = (np.mean([getattr(d, n) for d in self.deals]) for n in ("plain", INTERVENTIONS, ENVIRONMENTS))
        yield f"    plain zero-shot {100 * plain:.1f} %; along the shift C_d {c_d:.2f}, B {b:.2f}"
        for name in self.deals[0].highest:
            gain = np.mean([d.highest[name] - d.plain for d in self.deals])
            yield f"    N = {name}, at the strength that is best on the target itself: {100 * gain:+.1f} points"
        by_pair: dict[str, list[tuple[float, float]]] = {}
        for one in self.deals:
            for c in one.verdict.compared:
                interval = c.interval
                by_pair.setdefault(f"{c.method.label} minus {c.baseline.label}", []).append(
                    (interval.estimate, interval.standard_error)
                )
        for pair, values in by_pair.items():
            estimate, error = (100 * np.mean(column) for column in zip(*values, strict=True))
            yield f"    {pair}: {estimate:+.1f} points, standard error of one deal {error:.1f}"

    def _kept(self, part: str) -> str:
        return "MISSED" if part in self.missed() else "ok"


def along_shift(images: Images, design: Design) -> tuple[float, float, float]:
    """Return plain zero-shot's accuracy on the target, and how much C_d and B have along the shift."""
    data = images.data(design.split)
    target = data.environments.index(design.held_out)
    names = {e: name for e, name in enumerate(data.environments) if e != target}
    sides = frozenset(range(design.split.folds)) or frozenset([0])
    moments = images.cells(design.split, "before").sources(names, None, sides)
    z = scaled(data.z, "before")
    there = data.environment == target
    shift = z[there].mean(axis=0) - z[~there].mean(axis=0)
    c_z = moments.c_z()

    def along(n: Array) -> float:
        return float(shift @ n @ shift / (shift @ c_z @ shift) * np.trace(c_z) / np.trace(n))

    right = (z[there] @ data.text.T).argmax(axis=1) == data.label[there]
    return float(right.mean()), along(moments.c_d()), along(between_environments(moments))


def verdict_of(
    images: Images, lender: Images, design: Design, expected: Expected, recipe: Recipe
) -> tuple[ControlResult, dict[str, float]]:
    """Return what is found in a deal, and of zero-shot how accurate each N is at best.

    Args:
        images: the deal.
        lender: whose C_d is borrowed.
        design: how it is held out.
        expected: what must be found, by which predictor.
        recipe: the controls, with this data set alone.
    """
    if expected.predictor != PREDICTOR:
        trials = trials_on(recipe, (images.subject, lender.subject), expected.predictor, design.held_out)
        return reported(*images.rows(trials, lender), expected), {}
    one = found(images, lender, design)
    return one.verdict, {
        f"{'borrowed, ' * borrows}{name}": float(of_fit.max())
        for (name, borrows), of_fit in zip(FITS, one.accuracies, strict=True)
        if name
    }


def cells(recipe: Recipe, seeds: Sequence[int], only: Sequence[str]) -> Iterator[Cell]:
    """Yield the data sets of which it is known what must be found, each with its deals.

    Args:
        recipe: the controls.
        seeds: of the deals.
        only: names of data sets; empty for all.
    """
    drawings = Drawings(recipe)
    shrinking = next(p for p in recipe.sweep.projections if p.name == "shrinkage")
    [placebo] = [chosen for chosen in recipe.intervention_sets() if chosen.placebo == "borrowed"]
    specs = {dataset.name: dataset for dataset in recipe.datasets}
    assert placebo.lender is not None
    lender = drawings.deal(placebo.lender, specs[placebo.lender].planted, "")
    for name, spec in specs.items():
        expected = spec.must_be_found
        if name == placebo.lender or expected is None or (only and name not in only):
            continue
        split = Split(recipe.sweep.seeds[0], folds=recipe.sweep.folds or 0)
        design = Design(expected.held_out or DEFAULT_TARGET, split, "out_fold", shrinking.own_lambdas or ())
        alone = recipe.model_copy(update={"datasets": (spec, specs[placebo.lender])})
        deals = []
        for seed in seeds:
            images = drawings.deal(name, replace(spec.planted, seed=seed), design.held_out)
            verdict, highest = verdict_of(images, lender, design, Expected(**expected.model_dump()), alone)
            plain, c_d, b = along_shift(images, design)
            deals.append(Dealt(verdict, plain, highest, c_d, b))
            print(f"{name}, deal {seed}: found {' and '.join(verdict.found) or 'nothing'}", file=sys.stderr)
        yield Cell(name, expected.parts, tuple(deals))


def main() -> None:
    """Print what is found; end with an error where a bound is missed."""
    parser = arguments(__doc__)
    parser.add_argument("--deals", type=int, default=20, help="of each data set; bounds are made for 20")
    parser.add_argument("--first", type=int, default=0, help="seed of the first of them")
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME", help="data sets; all by default")
    args = parser.parse_args()
    missed: list[str] = []
    figures: dict[str, float] = {}
    for cell in cells(load_recipe(RECIPE), range(args.first, args.first + args.deals), args.only):
        print("\n".join(cell.lines()), flush=True)
        missed += [f"{cell.name} ({part})" for part in cell.missed()]
        figures |= {f"{cell.name}, {part}": cell.share(part) for part in (INTERVENTIONS, ENVIRONMENTS)}
    keep(args.json, figures)
    if missed:
        sys.exit(f"{len(missed)} bounds missed: {', '.join(missed)}")
    print("All bounds are kept.")


if __name__ == "__main__":
    main()
