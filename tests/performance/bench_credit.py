"""How often interventions are credited in simulated worlds in which they carry no shift: a gate of statistics.

    python -m tests.performance.bench_credit [--worlds 2000]

In each world four environments differ by an offset, which grows from a to d; d is held out. Interventions move embeddings
in a few directions of their own and a little in all others: C_d has structure, and knows nothing of the offsets. The data
set that lends C_d is another one of the same kind. Two kinds of world: `another data set's` interventions have nothing to do
with these images at all; the `encoder's` move, beside directions of their own, some in which images of a class differ
whatever the data set, so that C_d does help, and on the average no more than that of the other data set. Of the second kind
nothing is claimed: what one C_d has of its own and the other lacks makes a difference too, by chance and as real as any other,
and the more images are tested, the smaller a difference is shown.

All choose by lodo, cross-fitted over five folds, and gains are those by lodo_1se; what is credited is what a report
credits: a gain over the plain space is shown (Holm over all gains), and the question of interventions is answered with yes
(ahead of environments alone, of isotropic shrinkage with environments and of borrowed interventions, each; Holm over the
three questions). Beside it stands how often the environments' means, which do carry the shift, are credited, and how often
each comparison alone is won. Ends with an error where interventions are credited in more than 6 % of the first kind.
"""

import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from benchmark.backbones.facts import BackboneFacts
from benchmark.method.arrays import Array, unit
from benchmark.method.evaluation.multiple_testing import ALPHA
from benchmark.method.evaluation.splits import Split
from benchmark.recipe.loading import parse_recipe
from reports.analysis.findings import ControlResult
from tests.performance.answers import Design, found
from tests.performance.figures import arguments, keep
from tests.performance.in_process import ImageRow, Images, subject_of

D, CLASSES, ENVIRONMENTS, LENT = 16, 4, "abcd", 120
SIZES = {"a": 60, "b": 60, "c": 60, "d": 400}  # images; only d is tested
OFFSETS = dict(zip(ENVIRONMENTS, (0.0, 0.6, 1.2, 2.4), strict=True))
DIRECTIONS, SHARED = 3, 3  # that interventions of a data set move most, of its own and of the encoder
KINDS = ("another data set's", "the encoder's")
CLAIMED, BOUND = KINDS[0], 0.06
LAMBDAS = (0.0, 0.3, 3.0, 30.0)
FOLDS = 5
DESIGN = Design("d", Split(0, folds=FOLDS), "out_fold", LAMBDAS)
RECIPE = parse_recipe(
    {
        "name": "worlds",
        "datasets": ["world", "lender"],
        "backbones": [{"name": "world", "pretrained": "random"}],
        "interventions": {"kinds": ["grayscale"]},  # names the views, and makes none
        "sweep": {
            "protocols": ["held_out"],
            "folds": FOLDS,
            "seeds": [0],
            "normalize": ["before"],
            "predictors": ["zero_shot"],
            "intervention_sets": [{"name": "real"}, {"name": "borrowed", "placebo": "borrowed"}],
            "projections": ["identity", {"name": "shrinkage", "lambdas": LAMBDAS}, "fixed",
                            {"name": "isotropic_environments", "lambdas": LAMBDAS}],
        },
    }
)  # fmt: skip
FACTS = BackboneFacts("world", "", "", D, {}, 100.0, False, "float32")


def subjects() -> tuple[Images, Images]:
    """Return world and lender with the layout that all worlds share, and without embeddings."""
    sizes = {"world": SIZES, "lender": dict.fromkeys(ENVIRONMENTS, LENT // len(ENVIRONMENTS))}
    made = []
    for name, of_environment in sizes.items():
        rows = [ImageRow(e, f"class {c}", f"{i:03}") for e, n in of_environment.items() for c in range(CLASSES)
                for i in range(n // CLASSES)]  # fmt: skip
        made.append(Images(subject_of(RECIPE, name, rows, FACTS), np.zeros((0, 2, D)), np.zeros((0, 0), np.float32)))
    return made[0], made[1]


def drawn(layout: Images, shared: Array, text: Array, rng: np.random.Generator) -> Images:
    """Return a data set with embeddings of images and of their views.

    Args:
        layout: with its images.
        shared: directions in which images of a class differ, and which interventions move, shape (SHARED, D); the
            latter not where there are none, shape (0, D).
        text: embeddings of the classes, shape (CLASSES, D).
        rng: draws.
    """
    manifest = layout.subject.manifest
    n, label = manifest.table.num_rows, manifest.table["label"].to_numpy()
    sizes = np.array([OFFSETS[name] for name in manifest.environments])[manifest.environment_index]
    z = text[label] + 0.35 * rng.standard_normal((n, D)) + sizes[:, None] * unit(rng.standard_normal((1, D)))
    z = z + 0.7 * rng.standard_normal((n, SHARED)) @ (shared if len(shared) else unit(rng.standard_normal((SHARED, D))))
    moved = np.concatenate([shared, unit(rng.standard_normal((DIRECTIONS, D)))])
    views = z + 0.5 * rng.standard_normal((n, len(moved))) @ moved + 0.1 * rng.standard_normal((n, D))
    return Images(layout.subject, np.stack([z, views], axis=1), unit(text).astype(np.float32))


def drawn_world(kind: str, number: int, world: Images, lender: Images) -> tuple[Images, Images]:
    """Return the world of a kind with some number, and the data set that lends to it.

    Args:
        kind: one of KINDS.
        number: another one is another world.
        world: the layout of worlds.
        lender: that of lenders.
    """
    rng = np.random.default_rng([KINDS.index(kind), number])
    text = unit(rng.standard_normal((CLASSES, D)))
    shared = unit(rng.standard_normal((SHARED if kind == "the encoder's" else 0, D)))
    return drawn(world, shared, text, rng), drawn(lender, shared, text, rng)


def verdicts(kind: str, worlds: int) -> Iterator[ControlResult]:
    """Yield what is found in each world of a kind."""
    world, lender = subjects()
    for number in range(worlds):
        yield found(*drawn_world(kind, number, world, lender), DESIGN).verdict


@dataclass(frozen=True)
class Counts:
    """In which shares of the worlds parts are credited, and comparisons with shrinkage won."""

    parts: dict[str, float]
    won: dict[str, float]


def counts(kind: str, worlds: int) -> Counts:
    """Return how often parts are credited in the worlds of a kind."""
    parts: Counter[str] = Counter()
    won: Counter[str] = Counter()
    for one in verdicts(kind, worlds):
        parts.update(one.found)
        of_ours = [c for c in one.compared if (c.method.projection, c.method.variant) == ("shrinkage", "")]
        of_ours = [c for c in of_ours if c.rule == ("lodo_1se" if c.baseline.is_plain else "lodo")]
        won.update(c.baseline.label for c in of_ours if c.interval.p <= ALPHA and c.interval.estimate > 0)
    return Counts(*({name: n / worlds for name, n in counter.items()} for counter in (parts, won)))


def main() -> None:
    """Print the shares; end with an error where another data set's interventions are credited too often."""
    parser = arguments(__doc__)
    parser.add_argument("--worlds", type=int, default=2000, help="of each kind")
    args = parser.parse_args()
    credited = {}
    for kind in KINDS:
        of_kind = counts(kind, args.worlds)
        credited[kind] = of_kind.parts.get("interventions", 0.0)
        verdict = "ok" if credited[kind] <= BOUND else "MISSED"
        bound = f"bound {100 * BOUND:.0f} %: {verdict}" if kind == CLAIMED else "no claim"
        print(f"{kind} interventions, {args.worlds} worlds: credited in {100 * credited[kind]:.2f} % ({bound})")
        print(f"    environment means credited in {100 * of_kind.parts.get('environments', 0.0):.2f} %")
        for name, share in of_kind.won.items():
            print(f"    shrinkage ahead of {name}: {100 * share:.2f} %", flush=True)
    keep(args.json, {"credited_another_sets": credited[CLAIMED], "credited_encoders": credited[KINDS[1]]})
    if credited[CLAIMED] > BOUND:
        sys.exit(f"Interventions that carry no shift are credited in more than {100 * BOUND:.0f} % of the worlds.")


if __name__ == "__main__":
    main()
