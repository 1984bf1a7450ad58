"""One fitted projection outside of a sweep: to be exported, or looked at. Needs Ray and stored embeddings."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any, TypeVar

import numpy as np
import ray
from numpy.typing import NDArray
from scipy.linalg import orth

from benchmark.datasets.splits import Split
from benchmark.embedding.moments import Images
from benchmark.errors import IcmBenchError, nearest
from benchmark.evaluation.embedded import Embedded, scaled
from benchmark.recipe import TEXT, InterventionSet, Normalize, Recipe, SweepSpec
from benchmark.source import Source, cells_for, load, sum_source, weights_of
from benchmark.storage import Storage
from benchmark.subspace import Basis, Projection, SourceMoments
from benchmark.subspace.diagnostics import angle_table, decodability, invariance_ratio, moved_by, sample_angles, terms
from benchmark.subspace.moments import CROSS
from benchmark.trials import code_version

T = TypeVar("T")
MOST_SAMPLED = 20_000  # images that diagnostics look at one by one, drawn at random from more
FOLDS = 5  # of the cross-validation by which the environment is read


@dataclass(frozen=True)
class Choice:
    """Which projection to fit, of all that a recipe describes.

    Attributes:
        source: data set under a backbone.
        projection, lambda_, normalize, seed: see the recipe; lambda_ is 0 where the projection has none.
        intervention_set: None where the projection looks at no intervention.
        without: environments that are left out, as if held out.
    """

    source: Source
    projection: Projection
    intervention_set: InterventionSet | None
    lambda_: float
    normalize: Normalize
    seed: int
    without: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """The projection with its lambda and intervention set."""
        parts = [self.projection.label]
        parts += [f"lambda {self.lambda_:g}"] if self.projection.uses_lambda else []
        parts += [self.intervention_set.name] if self.intervention_set else []
        return ", ".join(parts)


def choose(recipe: Recipe, sources: list[Source], given: dict[str, Any]) -> Choice:
    """Return the projection that the command line picks from a recipe.

    Args:
        recipe: what there is to choose from.
        sources: of the recipe.
        given: labels under `dataset`, `backbone`, `projection` and `intervention_set`, and `lambda_`, `normalize`,
            `seed` and `without`; what is None must be the only one of its kind in the recipe, but for the seed, where
            the first is taken.

    Raises:
        IcmBenchError: something is not in the recipe, or the recipe has several and none was named.
    """
    sweep = recipe.sweep
    dataset = _one("--dataset", given["dataset"], [s.manifest.name for s in sources], str)
    backbone = _one("--backbone", given["backbone"], [s.facts.label for s in sources], str)
    source = next(s for s in sources if (s.manifest.name, s.facts.label) == (dataset, backbone))
    fitted = [p for p in sweep.projections if not p.full_rank_only]
    if not fitted:
        raise IcmBenchError("The recipe has no projection but the whole space; add one to sweep.projections.")
    preferred = [p for p in fitted if p.uses_interventions and p.order_name != "released"] or fitted
    named = given["projection"] is not None
    projection = _one("--projection", given["projection"], fitted if named else preferred, lambda p: p.label)
    chosen = None
    if projection.uses_interventions:
        sets = recipe.intervention_sets()
        chosen = _one("--intervention-set", given["intervention_set"], sets, lambda s: s.name)
    lambda_ = _lambda(sweep, given["lambda_"]) if projection.uses_lambda else 0.0
    normalize: Normalize = _one("--normalize", given["normalize"], sweep.normalize, str)
    seed = _one("--seed", sweep.seeds[0] if given["seed"] is None else given["seed"], sweep.seeds, int)
    without = tuple(given["without"] or ())
    for name in without:
        if name not in source.manifest.environments:
            raise IcmBenchError(
                f"--without: {dataset} has no environment '{name}'; {nearest(name, source.manifest.environments)}"
            )
    if len(without) >= len(source.manifest.environments):
        raise IcmBenchError("--without: no environment is left to fit the projection on; leave one in.")
    return Choice(source, projection, chosen, lambda_, normalize, seed, without)


def _lambda(sweep: SweepSpec, given: float | None) -> float:
    """Return the lambda that was named: one of the grid's, or, where there is a search, any within its bounds."""
    if given is None or sweep.search is None:
        return _one("--lambda", given, sweep.lambdas, float)
    low, high = sweep.search.lambdas
    if not low <= given <= high:
        raise IcmBenchError(f"--lambda: {given:g} is not between {low:g} and {high:g}, the bounds of the search.")
    return given


def _one(option: str, given: Any, known: Iterable[T], label: Callable[[T], Any]) -> T:
    """Return the one that was named, or the only one there is."""
    by_label = {label(item): item for item in known}
    if given is None and len(by_label) == 1:
        return next(iter(by_label.values()))
    names = ", ".join(map(str, by_label))
    if given is None:
        raise IcmBenchError(f"{option} is needed, since the recipe has several: {names}.")
    if given not in by_label:
        raise IcmBenchError(f"{option}: '{given}' is not in the recipe, which has {names}.")
    return by_label[given]


class Fitting:
    """Fits projections of one source; embeddings are loaded once, and moments summed where the store lacks them.

    Args:
        storage: with the embeddings.
        source: data set under a backbone.
        seeds: whose splits are needed.
    """

    def __init__(self, storage: Storage, source: Source, seeds: tuple[int, ...]) -> None:
        self._storage, self._source = storage, source
        loaded: tuple[Embedded, Images] = tuple(ray.get(load.remote(storage, source, tuple(map(Split, seeds)))))
        self.data, self._images = loaded

    @property
    def ids(self) -> list[str]:
        """Image ids of the readable images, in the order of the embeddings."""
        return self._images.ids

    def moments(self, choice: Choice) -> SourceMoments:
        """Return the moments of the in-splits of the environments that are not left out."""
        chosen, split = choice.intervention_set, Split(choice.seed)
        sum_source(self._storage, self._source, self._images, [split], [choice.normalize], [chosen])
        cells = cells_for(self._storage, self._source, self._images, chosen, split, choice.normalize)
        names = {i: n for i, n in enumerate(self.data.environments) if n not in choice.without}
        return cells.sources(names, weights_of(self._source, chosen))

    def basis(self, choice: Choice) -> Basis:
        """Return the fitted basis.

        Raises:
            IcmBenchError: the moments lack what the projection needs.
        """
        try:
            return choice.projection.fit(self.moments(choice), choice.lambda_, choice.seed)
        except ValueError as error:
            raise IcmBenchError(f"{choice.label} cannot be fitted: {error}") from error

    def sample(self) -> NDArray[np.int64]:
        """Return up to `MOST_SAMPLED` rows, drawn at random from environments alike; none of tiny environments."""
        members = [np.flatnonzero(self.data.environment == e) for e in range(len(self.data.environments))]
        members = [rows for rows in members if len(rows) >= FOLDS]
        rng, most = np.random.default_rng(0), MOST_SAMPLED // max(1, len(members))
        drawn = [rng.choice(rows, min(len(rows), most), replace=False) for rows in members]
        return np.sort(np.concatenate(drawn)) if drawn else np.zeros(0, dtype=np.int64)

    def embeddings(self, choice: Choice, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return embeddings as the projection sees them, shape (len(rows), D)."""
        return scaled(self.data.z[rows], choice.normalize)


def provenance(recipe: Recipe, choice: Choice, moments: SourceMoments) -> dict[str, Any]:
    """Return where a projection comes from, in plain data."""
    source, chosen = choice.source, choice.intervention_set
    return {
        "dataset": source.manifest.name,
        "dataset_fingerprint": source.manifest.fingerprint,
        "environments": list(moments.environments),
        "images": moments.images.n,
        "split": f"in-split (80 %) of trial seed {choice.seed}",
        "backbone": source.facts.label,
        "fingerprint": source.facts.fingerprint,
        "random_weights": source.facts.random_weights,
        "precision": source.facts.precision,
        "projection": choice.projection.model_dump(mode="json"),
        "lambda": choice.lambda_ if choice.projection.uses_lambda else None,
        "intervention_set": chosen.model_dump(mode="json") if chosen else None,
        "interventions": recipe.interventions.model_dump(mode="json") if chosen else None,
        "text_pairs": source.text_pairs if chosen and TEXT in chosen.kinds else None,
        "normalize": choice.normalize,
        "prompts": list(recipe.prompts.templates_for(source.manifest.name)),
        "recipe_hash": recipe.hash(),
        "code_version": code_version(),
    }


def diagnose(fitting: Fitting, recipe: Recipe, choice: Choice, rank: int) -> dict[str, Any]:
    """Return what a projection keeps and how stable it is, in plain data (angles in degrees, NaN as None).

    Args:
        fitting: of the choice's source, with all seeds of the recipe.
        recipe: whose seeds and intervention kinds are compared.
        choice: the projection, fitted on all environments that are not left out.
        rank: of the subspaces that are compared.
    """
    moments = fitting.moments(choice)
    basis = fitting.basis(choice)
    kinds: dict[str, Choice] = {}
    found: dict[str, Any] = {"choice": choice.label, "rank": rank, "dim": moments.dim, "images": moments.images.n}
    found["environments"] = list(moments.environments)
    found["spectrum"] = None if basis.spectrum is None else basis.spectrum.tolist()
    if choice.intervention_set:
        differences = {kind: moments.differences(kind) for kind in moments.kinds()}
        if choice.intervention_set.pairing == "each":
            kinds = {kind: replace(choice, intervention_set=_alone(kind)) for kind in differences}
        found |= {
            "energy": basis.energy(moments.c_z()).tolist(),
            "invariance_ratio": _plain(invariance_ratio(basis, moments)),
            "moved_by": {kind: energy.tolist() for kind, energy in moved_by(basis, differences).items()},
        }
        if choice.projection.uses_lambda:
            both = terms(basis, moments, choice.lambda_)
            found |= {name: term.tolist() for name, term in zip(("reconstruction", "consistency"), both, strict=True)}
    # What is left must be enough to fit on: pairs across environments need two.
    enough = len(moments.environments) > (2 if CROSS in moments.kinds() else 1)
    left_out = {name: replace(choice, without=(*choice.without, name)) for name in moments.environments if enough}
    seeds = {f"seed {seed}": replace(choice, seed=seed) for seed in recipe.sweep.seeds}
    groups = {"held_out": left_out, "seeds": seeds, "kinds": kinds}
    found["angles"] = {name: _angles(fitting, choices, rank) for name, choices in groups.items() if len(choices) > 1}
    rows = fitting.sample()
    z, environment = fitting.embeddings(choice, rows), fitting.data.environment[rows]
    spaces = (("plain", moments.dim, z), ("projected", rank, z @ basis.vectors[:, :rank]))
    found["decodability"] = [
        {"space": space, "rank": k, **vars(decodability(x, environment))}
        for space, k, x in spaces
        if len(np.unique(environment)) > 1
    ]
    return found


def backbone_angles(fittings: dict[str, tuple["Fitting", Choice]], rank: int) -> dict[str, Any]:
    """Return the median canonical angle between the projected embeddings of the same images by several backbones.

    Args:
        fittings: backbone -> its fitting and the choice for it.
        rank: of the subspaces.
    """
    ids = [set(fitting.ids) for fitting, _ in fittings.values()]
    first = next(iter(fittings.values()))[0]
    common = set.intersection(*ids)
    wanted = [first.ids[row] for row in first.sample() if first.ids[row] in common]
    projected = {}
    for label, (fitting, choice) in fittings.items():
        position = {image_id: i for i, image_id in enumerate(fitting.ids)}
        rows = np.array([position[image_id] for image_id in wanted])
        projected[label] = fitting.embeddings(choice, rows) @ fitting.basis(choice).vectors[:, :rank]
    labels, table = list(projected), np.zeros((len(projected), len(projected)))
    for i, j in combinations(range(len(labels)), 2):
        table[i, j] = table[j, i] = np.median(sample_angles(projected[labels[i]], projected[labels[j]]))
    return {"labels": labels, "degrees": table.tolist()}


def _alone(kind: str) -> InterventionSet:
    return InterventionSet(name=kind, kinds=(kind,))


def _angles(fitting: Fitting, choices: dict[str, Choice], rank: int) -> dict[str, Any]:
    bases = {label: fitting.basis(choice) for label, choice in choices.items()}
    labels, degrees = angle_table(bases, rank)
    spans = [orth(bases[label].vectors[:, :rank]) for label in labels]
    overlap = [[float(np.sum((a.T @ b) ** 2) / min(a.shape[1], b.shape[1])) for b in spans] for a in spans]
    return {"labels": labels, "degrees": degrees.tolist(), "overlap": overlap}


def _plain(values: NDArray[np.float64]) -> list[float | None]:
    return [float(v) if np.isfinite(v) else None for v in values]
