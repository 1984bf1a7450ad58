"""`icm-bench diagnose`: spectrum, displacements by interventions and subspace angles of one projection."""

from collections.abc import Mapping
from dataclasses import replace
from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import orth

from benchmark.commands.choice import Choosing, check_rank, choose, nuisance_of
from benchmark.commands.embed import on_sound_embeddings
from benchmark.commands.preparing.prepare import Run, have_embeddings, report_place
from benchmark.common.plain import canonical_hash
from benchmark.method.evaluation.spans import Shifts, Spans, spans_of
from benchmark.method.subspace import Basis, SourceMoments, diagnostics
from benchmark.method.subspace.moments import CROSS, Placebo
from benchmark.method.subspace.nuisance import nuisance
from benchmark.method.subspace.placebos import Matched, Rotated
from benchmark.store.records import report_folder
from benchmark.sweep.fitting import Choice, Fitting
from reports.analysis.diagnostics import Angles, Diagnosis, Displacement, Mapped, Readability, Shift
from reports.text.diagnosis import write_diagnostics

DRAWS = 20  # number of draws of each placebo of C_d


def diagnose(run: Run, choosing: Choosing, rank: int | None) -> tuple[Diagnosis, list[str], str]:
    """Diagnose one projection of a recipe; return the diagnosis, the names of the written files, and the text.

    Call it in a block of `connected`. If the recipe has several backbones, the projection is fitted under each of them,
    and the projected embeddings are compared.

    Args:
        run: run with the embeddings.
        choosing: options that select the projection.
        rank: rank of the compared subspaces, 1 to D. None: the middle one of the recipe's ranks. Ignored for a map
            without ranks, which has no subspaces to compare.

    Raises:
        IcmBenchError: the choice is ambiguous or impossible, embeddings are missing, or the report cannot be written.
    """
    choice = choose(run, choosing)
    subject = choice.subject
    check_rank(rank, choice)
    ranks = run.recipe.sweep.ranks_for(subject.facts.dim)
    rank = ranks[len(ranks) // 2] if rank is None else rank
    rank = None if choice.projection.full_rank_only else rank
    diagnosis = on_sound_embeddings(run, lambda: _diagnosis(run, choice, rank))
    content = [subject.manifest.fingerprint, subject.facts.identity(), choice.label, choice.normalize, choice.seed]
    digest = canonical_hash([*content, list(choice.without), rank])
    place = report_place(run, report_folder(run.recipe.name, run.recipe.hash(), digest, "diagnostics"))
    return diagnosis, *write_diagnostics(diagnosis, *place)


def _diagnosis(run: Run, choice: Choice, rank: int | None) -> Diagnosis:
    """Return the diagnosis of a projection, with angles between the recipe's backbones if there are several."""
    # A new field goes into `reports.analysis.diagnostics.Diagnosis`, and into the text of reports/text/diagnosis.py.
    subject, seeds, backbones = choice.subject, run.recipe.sweep.seeds, None
    of_set = [s for s in run.subjects if s.manifest.name == subject.manifest.name]
    peers = [subject] if rank is None else [s for s in of_set if s.facts.dim >= rank]
    have_embeddings(run, peers)
    fitting = Fitting(run.storage, subject, seeds)
    if rank is not None and len(peers) > 1:
        fittings = {
            s.facts.label: (
                fitting if s.key == subject.key else Fitting(run.storage, s, (choice.seed,)),
                replace(choice, subject=s.at_draw(subject.view_draw)),
            )
            for s in peers
        }
        backbones = backbone_angles(fittings, rank)
    moments, basis, facts = fitting.moments(choice), fitting.basis(choice), choice.subject.facts
    rows = fitting.sample(choice)
    z, data = fitting.embeddings(choice, rows), fitting.data(choice)
    environment, group = data.environment[rows], None if data.group is None else data.group[rows]
    kept = moments.dim if rank is None else rank
    spaces = (("plain", moments.dim, z), ("projected", kept, z @ basis.vectors[:, :kept]))
    angles: dict[str, Angles] = {}
    for name, choices in _alternatives(choice, moments, seeds).items():
        if rank is not None and len(choices) > 1:
            bases = {label: fitting.basis(one) for label, one in choices.items()}
            labels, degrees = diagnostics.angle_table(bases, rank)
            spans: list[NDArray[np.float64]] = [orth(bases[label].vectors[:, :rank]) for label in labels]
            overlap = [[float(np.sum((a.T @ b) ** 2) / min(a.shape[1], b.shape[1])) for b in spans] for a in spans]
            angles[name] = Angles(labels, degrees.tolist(), overlap)
    return Diagnosis(
        choice=choice.label,
        dataset=choice.subject.name,
        backbone=facts.label,
        random_weights=facts.random_weights,
        normalize=choice.normalize,
        seed=choice.seed,
        split=choice.split_words(run.recipe.sweep.folds),
        rank=rank,
        dim=moments.dim,
        images=moments.images.n,
        environments=list(moments.environments),
        spectrum=None if basis.spectrum is None else basis.spectrum.tolist(),
        displacement=None if rank is None else _displacement(choice, basis, moments),
        mapped=_mapped(choice, basis, moments) if rank is None else None,
        nuisance=nuisance_of(choice.projection),
        shift=_shift(fitting, choice, moments, kept),
        angles=angles,
        decodability=[
            Readability(space, k, **vars(diagnostics.decodability(x, environment, group)))
            for space, k, x in spaces
            if len(np.unique(environment)) > 1
        ],
        backbones=backbones,
    )


def _displacement(choice: Choice, basis: Basis, moments: SourceMoments) -> Displacement | None:
    """Return how far interventions move embeddings in each direction; None if the projection uses no interventions."""
    if choice.intervention_set is None:
        return None
    differences = {kind: moments.differences(kind) for kind in moments.kinds()}
    name = nuisance_of(choice.projection)
    n = nuisance(moments, name) if name else None
    objective = (None, None) if choice.lambda_ is None else diagnostics.terms(basis, moments, choice.lambda_, n)
    reconstruction, consistency = (None if term is None else term.tolist() for term in objective)
    return Displacement(
        energy=basis.energy(moments.c_z()).tolist(),
        invariance_ratio=[float(v) if np.isfinite(v) else None for v in diagnostics.invariance_ratio(basis, moments)],
        moved_by={kind: energy.tolist() for kind, energy in diagnostics.moved_by(basis, differences).items()},
        reconstruction=reconstruction,
        consistency=consistency,
    )


def _mapped(choice: Choice, basis: Basis, moments: SourceMoments) -> Mapped:
    """Return the shares of energy and displacement that remain after a map without ranks, such as shrinkage."""
    name, kinds = nuisance_of(choice.projection), moments.kinds() if choice.intervention_set else []
    ratio: list[float] | None = None
    objective: tuple[float, float] | tuple[None, None] = (None, None)
    if kinds:
        plain = Basis(np.eye(moments.dim))
        moved, energy = ([b.energy(c).sum() for b in (plain, basis)] for c in (moments.c_d(), moments.c_z()))
        ratio = [float(m / e) for m, e in zip(moved, energy, strict=True)]
    if name and choice.lambda_ is not None:
        objective = diagnostics.terms_of_map(basis.vectors.T, moments, choice.lambda_, nuisance(moments, name))
    return Mapped(
        images_stay=bool(choice.lambda_) and np.array_equal(basis.vectors, np.eye(moments.dim)),
        energy_left=diagnostics.share_left(basis, moments.c_z()) or 0.0,
        displacement_left={kind: diagnostics.share_left(basis, moments.differences(kind).moment()) for kind in kinds},
        invariance_ratio=ratio,
        reconstruction=objective[0],
        nuisance_left=objective[1],
    )


def _shift(fitting: Fitting, choice: Choice, moments: SourceMoments, rank: int) -> Shift:
    """Return the share of the shift of class means that the projection removes.

    The shift is measured between sources, and from the sources to the environments that are left out, if any. The same
    shares are also returned for fits with a placebo in place of C_d.
    """
    shifts = Shifts.of(moments, list(fitting.left_out(choice)))
    drawn = choice.projection.takes_placebo and choice.intervention_set is not None

    def shares(placebo: Placebo | None) -> Spans:
        chosen = moments.reweighted(moments.weights, placebo)
        return spans_of(choice.projection.fit(chosen), chosen, shifts, (rank,))

    kinds: dict[str, type[Rotated | Matched]] = {"rotated": Rotated, "matched": Matched}
    return Shift(
        target=list(choice.without),
        real=shares(None),
        placebos={name: [shares(kind(0, i)) for i in range(1, DRAWS + 1)] for name, kind in kinds.items() if drawn},
    )


def _alternatives(choice: Choice, moments: SourceMoments, seeds: tuple[int, ...]) -> dict[str, dict[str, Choice]]:
    """Return fits to compare with the chosen one; each differs from it in one factor.

    The outer keys are the factors: `held_out` (one more environment is left out), `seeds` (another seed) and `kinds` (a
    single kind of pairs). The inner keys are labels of the fits.
    """
    kinds: dict[str, Choice] = {}
    chosen = choice.intervention_set
    if chosen and chosen.pairing == "each":
        for label in choice.subject.labels_of(chosen):
            alone = chosen.model_copy(update={"name": label, "kinds": (label,), "weights": None})
            kinds[label] = replace(choice, intervention_set=alone)
    # The remaining environments must suffice: pairs across environments need two, and so do environment means.
    enough = len(moments.environments) > max(2 if CROSS in moments.kinds() else 1, choice.projection.min_sources)
    left_out = {name: replace(choice, without=(*choice.without, name)) for name in moments.environments if enough}
    other_seeds = {f"seed {seed}": choice.at_seed(seed, number) for number, seed in enumerate(seeds)}
    return {"held_out": left_out, "seeds": other_seeds, "kinds": kinds}


def backbone_angles(fittings: Mapping[str, tuple[Fitting, Choice]], rank: int) -> Angles:
    """Return, for each pair of backbones, the median canonical angle between their projected embeddings of images.

    Args:
        fittings: fits and selected projection of each backbone, by its label.
        rank: rank of the subspaces.
    """
    ids = [set(fitting.ids) for fitting, _ in fittings.values()]
    first, choice = next(iter(fittings.values()))
    common = set.intersection(*ids)
    wanted = [first.ids[row] for row in first.sample(choice) if first.ids[row] in common]
    projected = {}
    for label, (fitting, choice) in fittings.items():
        position = {image_id: i for i, image_id in enumerate(fitting.ids)}
        rows = np.array([position[image_id] for image_id in wanted])
        projected[label] = fitting.embeddings(choice, rows) @ fitting.basis(choice).vectors[:, :rank]
    labels, table = list(projected), np.zeros((len(projected), len(projected)))
    for i, j in combinations(range(len(labels)), 2):
        table[i, j] = table[j, i] = np.median(diagnostics.sample_angles(projected[labels[i]], projected[labels[j]]))
    return Angles(labels, table.tolist())
