"""`icm-bench diagnose`: what a projection keeps, what interventions move, how far subspaces lie apart."""

from dataclasses import replace
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import orth

from benchmark.commands.choice import choose
from benchmark.commands.export import _check_rank
from benchmark.commands.prepare import Sources, _have_embeddings
from benchmark.common.hashing import canonical_hash
from benchmark.common.storage import Storage
from benchmark.method.subspace.diagnostics import (
    angle_table,
    decodability,
    invariance_ratio,
    moved_by,
    sample_angles,
    terms,
)
from benchmark.method.subspace.moments import CROSS
from benchmark.recipe.recipe import Recipe
from benchmark.recipe.specs import InterventionSet
from benchmark.sweep.fitting import Choice, Fitting

if TYPE_CHECKING:
    from reports import ReportFiles


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


def diagnose_stage(
    recipe: Recipe, storage: Storage, subjects: Sources, given: dict[str, Any], rank: int | None
) -> tuple[dict[str, Any], "ReportFiles"]:
    """Look at one projection of a recipe; return what was found, and what was written. Needs a connection to Ray.

    Where the recipe has several backbones, the same projection of each is compared with that of the chosen one.

    Raises:
        IcmBenchError: as `export_stage`.
    """
    from reports import write_diagnostics

    choice = choose(recipe, [subject for subject, _ in subjects], given)
    subject = choice.subject
    rank = subject.ranks[len(subject.ranks) // 2] if rank is None else rank
    _check_rank(rank, subject)
    own = [(s, spec) for s, spec in subjects if s.manifest.name == subject.manifest.name and s.facts.dim >= rank]
    _have_embeddings(recipe, storage, own)
    fitting = Fitting(storage, subject, recipe.sweep.seeds)
    found = diagnose(fitting, recipe, choice, rank)
    found |= {"dataset": subject.manifest.name, "backbone": subject.facts.label}
    found |= {"random_weights": subject.facts.random_weights, "normalize": choice.normalize, "seed": choice.seed}
    if len(own) > 1:
        all_of_them = {
            s.facts.label: (
                fitting if s is subject else Fitting(storage, s, (choice.seed,)),
                replace(choice, subject=s),
            )
            for s, _ in own
        }
        found["backbones"] = backbone_angles(all_of_them, rank)
    place = Storage(recipe.run.out) if recipe.run.out else storage
    content = [subject.manifest.fingerprint, subject.facts.identity(), choice.label, choice.normalize, choice.seed]
    name = canonical_hash([*content, list(choice.without), rank])
    folder = "" if recipe.run.out else f"reports/{recipe.name}-{recipe.hash()[:8]}-diagnostics-{name[:8]}"
    return found, write_diagnostics(found, place, folder)
