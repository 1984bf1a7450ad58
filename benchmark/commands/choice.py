"""Selection of one projection of a recipe by command line options, for `export` and `diagnose`."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

from benchmark.commands.preparing.imported_sets import embeds_of
from benchmark.commands.preparing.prepare import Run
from benchmark.commands.stores import store_of
from benchmark.common.errors import IcmBenchError, nearest, some
from benchmark.method.arrays import Normalize
from benchmark.method.subspace import Projection
from benchmark.method.subspace.nuisance import Nuisance, NuisanceProjection
from benchmark.recipe.recipe import Recipe, names_environments
from benchmark.recipe.specs import SweepSpec
from benchmark.sweep.fitting import Choice
from benchmark.sweep.subject import Subject

T = TypeVar("T")


@dataclass(frozen=True)
class Choosing:
    """Options that select a projection. An option that is None stands for the only value in the recipe."""

    # A new field needs an option of the same name in `_projections` of benchmark/command_line.py.

    dataset: str | None = None
    backbone: str | None = None  # label of the backbone
    projection: str | None = None  # label; None: the paper's `icm`, else one with interventions
    nuisance: str | None = None  # nuisance, if the recipe lists several for the projection
    intervention_set: str | None = None
    lambda_: float | None = None  # in the grid of the projection or sweep, or within the bounds of a search
    normalize: str | None = None  # when embeddings are scaled to unit length, see `SweepSpec`
    seed: int | None = None  # seed of the split; None: the recipe's first seed
    without: tuple[str, ...] = ()  # environments that are left out, as if held out


def check_asked(recipe: Recipe, choosing: Choosing, rank: int | None) -> None:
    """Refuse values that the recipe does not have, as far as this is known before backbones are loaded."""
    projection = _projection(recipe.sweep, choosing.projection)
    known: dict[str, tuple[Any, Iterable[Any]]] = {
        "--dataset": (choosing.dataset, [dataset.name for dataset in recipe.datasets]),
        "--intervention-set": (choosing.intervention_set, [chosen.name for chosen in recipe.intervention_sets()]),
        "--normalize": (choosing.normalize, recipe.sweep.normalize),
        "--seed": (choosing.seed, recipe.sweep.seeds),
    }
    for option, (given, names) in known.items():
        if given is not None:
            one_of(option, given, names, lambda name: name)
    if choosing.nuisance is not None:
        projection = _setting(projection, choosing.nuisance)
    if choosing.lambda_ is not None and projection.uses_lambda:
        _lambda(recipe.sweep, projection, choosing.lambda_)
    if rank is not None and not (widest := max(dim for dim, _ in embeds_of(recipe, store_of(recipe)))) >= rank >= 1:
        raise IcmBenchError(f"--rank: {rank} is not between 1 and the embedding width D = {widest}.")


def choose(run: Run, choosing: Choosing) -> Choice:
    """Return the selected projection, data set, backbone and split; refuse ambiguous and unknown values."""
    recipe, sweep = run.recipe, run.recipe.sweep
    dataset = one_of("--dataset", choosing.dataset, [s.manifest.name for s in run.subjects], str)
    backbone = one_of("--backbone", choosing.backbone, [s.facts.label for s in run.subjects], str)
    subject = next(s for s in run.subjects if (s.manifest.name, s.facts.label) == (dataset, backbone))
    projection = _for_subject(recipe, subject, _projection(sweep, choosing.projection))
    projection = _setting(projection, choosing.nuisance)
    if (missing := _missing_input(projection, subject)) is not None:
        raise IcmBenchError(f"--projection: {projection.label} needs {missing}; choose another one of the recipe.")
    intervention_set = None
    if projection.uses_interventions:
        sets = [s for s in recipe.intervention_sets() if not s.placebo and s.is_among(subject.kinds)]
        if sets or choosing.intervention_set:
            intervention_set = one_of("--intervention-set", choosing.intervention_set, sets, lambda s: s.name)
    normalize: Normalize = one_of("--normalize", choosing.normalize, sweep.normalize, str)
    seed = one_of("--seed", sweep.seeds[0] if choosing.seed is None else choosing.seed, sweep.seeds, int)
    if projection.uses_lambda:
        projection = projection.at(lambda_=_lambda(sweep, projection, choosing.lambda_))
    environments = subject.manifest.environments
    for name in choosing.without:
        if name not in environments:
            raise IcmBenchError(f"--without: there is no environment '{name}'; {nearest(name, environments)}")
    if len(choosing.without) >= len(environments):
        raise IcmBenchError("--without: no environment is left to fit the projection on; remove one option.")
    subject = subject.at_draw(sweep.seeds.index(seed))
    return Choice(subject, projection.at(seed=seed), intervention_set, normalize, seed, choosing.without)


def check_rank(rank: int | None, choice: Choice) -> None:
    """Refuse a rank that the projection does not have; None is always accepted."""
    dim, projection = choice.subject.facts.dim, choice.projection
    if rank is not None and not 1 <= rank <= dim:
        raise IcmBenchError(f"--rank: {rank} is not between 1 and the embedding width D = {dim}.")
    if projection.full_rank_only and rank not in (None, dim):
        raise IcmBenchError(f"--rank: {projection.label} has no ranks; leave --rank out.")


def nuisance_of(projection: Projection) -> Nuisance | None:
    """Return the nuisance of a projection; None for projections without one."""
    return projection.nuisance_name if isinstance(projection, NuisanceProjection) else None


def _projection(sweep: SweepSpec, label: str | None) -> Projection:
    """Return the projection with this label; for None, the default described at `Choosing.projection`."""
    fitted = [p for p in sweep.projections if p.name != "identity"]
    if not fitted:
        raise IcmBenchError("The recipe has only the identity projection; add another to sweep.projections.")
    meant = [p for p in fitted if p.uses_interventions and p.order_name != "released"]
    paper = [p for p in meant if p.name == "icm" and not p.variant]
    return one_of("--projection", label, fitted if label is not None else paper or meant or fitted, lambda p: p.label)


def _for_subject(recipe: Recipe, subject: Subject, projection: Projection) -> Projection:
    """Return the projection, or its variant without interventions if the data set has no views under the backbone."""
    sets = [chosen for chosen in recipe.intervention_sets() if not chosen.placebo]
    if not projection.uses_interventions or not sets or any(chosen.is_among(subject.kinds) for chosen in sets):
        return projection
    if left := projection.without_interventions():
        return left
    raise IcmBenchError(f"--projection: {projection.label} needs views of {sets[0].name}; {subject.key} has none.")


def _missing_input(projection: Projection, subject: Subject) -> str | None:
    """Return in words the first input that the projection needs and the subject lacks; None if it lacks none."""
    name = subject.manifest.name
    if projection.uses_labels and not subject.manifest.reader.labelled:
        return f"classes, and {name} has none"
    if projection.uses_prompts and subject.facts.texts != "any":
        return f"prompts, and {subject.facts.label} has no texts of {name}"
    if subject.clusters and names_environments(projection):
        return f"names of environments, and the clusters of {name} have none"
    return None


def _setting(projection: Projection, name: str | None) -> Projection:
    """Return the variant of a projection with the nuisance `name`; None stands for the only variant."""
    if name is not None and not hasattr(projection, "nuisance"):
        raise IcmBenchError(f"--nuisance: {projection.label} has no nuisance to choose; leave --nuisance out.")
    return one_of("--nuisance", name, projection.settings, lambda p: getattr(p, "nuisance", p.label))


def _lambda(sweep: SweepSpec, projection: Projection, given: float | None) -> float:
    """Return lambda: `given` if it is in the grid or within the bounds of the search; for None, the only value."""
    if projection.own_lambdas:
        return one_of("--lambda", given, projection.own_lambdas, float)
    if given is None or sweep.search is None:
        return one_of("--lambda", given, sweep.lambdas, float)
    low, high = sweep.search.lambdas
    if not low <= given <= high:
        raise IcmBenchError(f"--lambda: {given:g} is not between {low:g} and {high:g}, the bounds of the search.")
    return given


def one_of(option: str, given: Any, known: Iterable[T], label: Callable[[T], Any]) -> T:
    """Return the item whose label is `given`; for None, the only item. Refuse everything else."""
    by_label = {label(item): item for item in known}
    if given is None and len(by_label) == 1:
        return next(iter(by_label.values()))
    names = some(by_label)
    if given is None:
        raise IcmBenchError(f"{option} is needed, since the recipe has several: {names}.")
    if given not in by_label:
        raise IcmBenchError(f"{option}: '{given}' is not in the recipe, which has {names}.")
    return by_label[given]
